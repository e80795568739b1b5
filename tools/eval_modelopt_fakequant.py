#!/usr/bin/env python3
"""The table of eval_fp8.py as diffusers gives it with ModelOpt's fake quantization.

Runs FluxPipeline in bfloat16 twice, plain and with every FP8 layer of an export replaced by what
ModelOpt's simulation computes: x and w are rounded to E4M3 under the export's own scales, widened
again, and multiplied in bfloat16. What remains between its numbers and Dither's is
implementation; the rest is the method. For development: needs torch, diffusers, safetensors.
"""
import argparse
import pathlib

import torch
from diffusers import FluxPipeline
from eval_fp8 import PROMPTS, ROOT, SEEDS, print_table
from safetensors.torch import load_file

E4M3_MAX = 448.0


class FakeQuantLinear(torch.nn.Module):
    """y = Q(x) Q(w)^T + b with Q(t) = scale * e4m3(clamp(t / scale)) in t's dtype."""

    def __init__(self, linear, codes, weight_scale, input_scale):
        super().__init__()
        dtype = linear.weight.dtype
        self.weight = (codes.float() * weight_scale).to(dtype)
        self.bias = linear.bias
        self.input_scale = input_scale

    def forward(self, x):
        scaled = (x.float() / self.input_scale).clamp(-E4M3_MAX, E4M3_MAX)
        rounded = scaled.to(torch.float8_e4m3fn).float() * self.input_scale
        return torch.nn.functional.linear(rounded.to(x.dtype), self.weight, self.bias)


def fake_quantize(transformer, folder):
    """Replaces every layer that has scales in the export; returns how many."""
    tensors = {}
    for file in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(load_file(file))
    names = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]
    for name in names:
        parent, _, leaf = name.rpartition(".")
        owner = transformer.get_submodule(parent)
        quantized = FakeQuantLinear(getattr(owner, leaf), tensors[name + ".weight"],
                                    tensors[name + ".weight_scale"], tensors[name + ".input_scale"])
        setattr(owner, leaf, quantized)
    return len(names)


def draw(pipe, prompt, seed):
    """(packed latents after the last step, 8-bit pixels), both float64"""
    last = {}

    def keep(_pipe, _step, _timestep, values):
        last["latents"] = values["latents"]
        return values

    image = pipe(prompt, height=128, width=128, num_inference_steps=20, guidance_scale=3.5,
                 max_sequence_length=64, generator=torch.Generator().manual_seed(seed),
                 callback_on_step_end=keep, output_type="np").images[0]
    return last["latents"].double(), torch.from_numpy((image * 255).round()).double()


def similarity(reference, candidate):
    latents = torch.nn.functional.cosine_similarity(reference[0].flatten(), candidate[0].flatten(),
                                                    dim=0)
    mse = ((reference[1] - candidate[1]) ** 2).mean()
    return latents.item(), (20 * torch.log10(torch.tensor(255.0)) - 10 * torch.log10(mse)).item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transformer", help="the FP8 transformer's folder")
    parser.add_argument("--model", default=ROOT / "models/emoji-flux")
    options = parser.parse_args()
    pipe = FluxPipeline.from_pretrained(options.model, torch_dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    cases = [(prompt, seed) for prompt in PROMPTS for seed in SEEDS]
    plain = {case: draw(pipe, *case) for case in cases}
    print(f"{fake_quantize(pipe.transformer, options.transformer)} layers fake-quantized")
    rows = {}
    for case in cases:
        rows.setdefault(case[0], []).append(similarity(plain[case], draw(pipe, *case)))
    print_table(rows)


if __name__ == "__main__":
    main()
