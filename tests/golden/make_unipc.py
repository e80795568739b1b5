#!/usr/bin/env python3
"""Timesteps, sigmas and trajectories of diffusers' UniPCMultistepScheduler as Wan configures it.

Writes wan/unipc.safetensors beside this script, all float32. "latents" [24], "direction" [24]; the
transformer is replaced by velocity(x, t) = direction + 0.25 (t / 1000) x. For each case
"steps<N>.shift<S>" ("order1.": solver_order 1) `sigmas`, `timesteps`, `trajectory` [N, 24]: the
sample after each step as diffusers computes it, and `exact`: the same run with sample and
coefficients in float64, from the same float32 sigmas.

    python make_unipc.py
"""
import pathlib

import diffusers
import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import save_file

SEED = 20240804
HERE = pathlib.Path(__file__).resolve().parent
CASES = [(6, 12, 2), (6, 3, 2), (40, 12, 2), (40, 5, 2), (40, 3, 2), (50, 5, 2), (1, 3, 2),
         (2, 3, 2), (3, 8, 2), (30, 1, 2), (8, 0.5, 2), (5, 3, 1)]


def run(scheduler, latents, direction, dtype):
    scheduler.sigmas = scheduler.sigmas.to(dtype)
    x = latents.to(dtype)[None]
    trajectory = []
    for t in scheduler.timesteps:
        velocity = direction.to(dtype) + 0.25 * (t.to(dtype) / 1000) * x
        x = scheduler.step(velocity, t, x, return_dict=False)[0]
        trajectory.append(x[0])
    return torch.stack(trajectory).float()


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    latents, direction = torch.randn(24), torch.randn(24)
    out = {"latents": latents, "direction": direction}
    for steps, shift, order in CASES:
        name = f"steps{steps}.shift{shift:g}." if order == 2 else f"order1.steps{steps}.shift{shift:g}."

        def scheduler():
            made = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True,
                                           flow_shift=shift, solver_order=order)
            made.set_timesteps(steps)
            return made
        out[name + "sigmas"] = scheduler().sigmas.float()
        out[name + "timesteps"] = scheduler().timesteps.float()
        out[name + "trajectory"] = run(scheduler(), latents, direction, torch.float32)
        out[name + "exact"] = run(scheduler(), latents, direction, torch.float64)
        worst = (out[name + "trajectory"] - out[name + "exact"]).abs().max()
        print(name, f"float32 run differs by {worst:.1e}")
    metadata = {"made_by": "make_unipc.py", "seed": str(SEED), "torch": torch.__version__,
                "diffusers": diffusers.__version__}
    path = HERE / "wan" / "unipc.safetensors"
    save_file({k: v.contiguous() for k, v in out.items()}, path, metadata)
    path.chmod(0o644)


if __name__ == "__main__":
    main()
