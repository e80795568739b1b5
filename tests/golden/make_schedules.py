#!/usr/bin/env python3
"""sigmas and timesteps of diffusers' FluxPipeline for checking FlowMatchSchedule bit for bit.

make_schedules.py OUT.safetensors

Keys: <shifting>.<parameter>.<sigmas|timesteps>, float32, num_inference_steps 1 to 60 one after
another (N + 1 sigmas, N timesteps each); the parameter is image_seq_len under dynamic shifting
(base_shift 0.5 at 256, max_shift 1.15 at 4096), else shift.
"""
import sys

import diffusers
import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from safetensors.torch import save_file


def schedules(image_seq_len=4096, **config):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    sigmas, timesteps = [], []
    for n in range(1, 61):
        t, _ = retrieve_timesteps(
            scheduler, n, "cpu", sigmas=np.linspace(1.0, 1 / n, n), mu=calculate_shift(image_seq_len)
        )
        timesteps.append(t)
        sigmas.append(scheduler.sigmas)
    return torch.cat(sigmas), torch.cat(timesteps)


cases = {}
for seq_len in (64, 1024, 4080, 4096):
    cases[f"exponential.{seq_len}"] = schedules(seq_len, use_dynamic_shifting=True, shift=3.0)
cases["linear.1024"] = schedules(1024, use_dynamic_shifting=True, time_shift_type="linear")
for shift in (1, 3):
    cases[f"static.{shift}"] = schedules(shift=float(shift))

out = {}
for name, (sigmas, timesteps) in cases.items():
    out[f"{name}.sigmas"], out[f"{name}.timesteps"] = sigmas, timesteps
versions = {"diffusers": diffusers.__version__, "torch": torch.__version__, "numpy": np.__version__}
save_file(out, sys.argv[1], metadata=versions)
print(versions, len(out), "tensors")
