#!/usr/bin/env python3
"""The floor of a FLUX.1 step: its matrix products and attentions alone, as fast as libraries do it.

floor_flux1.py [--variants bf16,fp8-full] [--parts all,core,gemm,attention] [--seconds 3] [--json F]

One CUDA graph per row, replayed back to back for --seconds (shared perf.md, "C measured"): cuBLASLt
through torch (bf16: linear, fp8: _scaled_mm with fast accumulation) and cuDNN's bf16 attention, of
1024 x 1024 pixels, 512 text tokens, batch 1. No bias, no element-wise work, no quantization of
activations; weights rotate among copies so that they come from memory.
  all        every product and attention of a forward, modulation (M = 1) included: floor C
  core       the same without modulation, which a runtime can do once for all steps
  gemm       products and modulation only
  attention  attentions only
Needs torch; no GPU: it runs tiny shapes on the CPU, which proves the script and nothing else.
"""
import argparse

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import gpu_timing
from gpu_timing import CUDA, DEVICE

PARTS = {"all": "gma", "core": "ga", "gemm": "gm", "attention": "a"}
BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn


class Shape:
    """FLUX.1's sizes, or small ones."""

    def __init__(self, tiny=False):
        self.heads, self.head_dim = (2, 32) if tiny else (24, 128)
        self.width = self.heads * self.head_dim
        self.image, self.text = (64, 16) if tiny else (4096, 512)
        self.double, self.single = (2, 2) if tiny else (19, 38)


class Operands:
    """Random activations and weights by shape. A product takes the next of several weights."""

    BYTES_A_SHAPE = 3e9  # more than the second-level cache holds, less than memory

    def __init__(self):
        self.activations = {}
        self.weights = {}
        self.scale = torch.full((), 1e-4, device=DEVICE)

    @staticmethod
    def random(rows, cols, fp8):
        values = torch.randn(rows, cols, device=DEVICE, dtype=BF16)
        # A standard deviation of 90 uses the range of E4M3, and with it the power it takes.
        return (values * 90).clamp(-448, 448).to(E4M3) if fp8 else values * cols**-0.5

    def product(self, m, n, k, fp8):
        """Random x [m, k] times the next of the weights [n, k], transposed."""
        if (m, k, fp8) not in self.activations:
            self.activations[m, k, fp8] = self.random(m, k, fp8)
        if (n, k, fp8) not in self.weights:
            count = max(2, min(6, int(self.BYTES_A_SHAPE / (2 * n * k))))
            self.weights[n, k, fp8] = [self.random(n, k, fp8) for _ in range(count)]
        weights = self.weights[n, k, fp8]
        weights.append(weights.pop(0))
        x, w = self.activations[m, k, fp8], weights[0]
        if not fp8:
            return F.linear(x, w)
        if not CUDA:
            return (x.float() @ w.float().t() * self.scale * self.scale).to(BF16)
        return torch._scaled_mm(x, w.t(), scale_a=self.scale, scale_b=self.scale, out_dtype=BF16,
                                use_fast_accum=True)


def forward_products(shape, variant):
    """[(kind, m, n, k, fp8)] of a forward in order: "g" product, "m" modulation, "a" attention."""
    d, image, text = shape.width, shape.image, shape.text
    fp8 = variant != "bf16"
    rest = variant == "fp8-full"  # feed-forward and modulation: bf16 in the profile
    double = [
        ("m", 1, 6 * d, d, rest), ("m", 1, 6 * d, d, rest),
        ("g", image, 3 * d, d, fp8), ("g", text, 3 * d, d, fp8), ("a",),
        ("g", image, d, d, fp8), ("g", text, d, d, fp8),
        ("g", image, 4 * d, d, rest), ("g", image, d, 4 * d, rest),
        ("g", text, 4 * d, d, rest), ("g", text, d, 4 * d, rest),
    ]
    tokens = image + text
    single = [("m", 1, 3 * d, d, rest), ("g", tokens, 7 * d, d, fp8), ("a",),
              ("g", tokens, d, 5 * d, fp8)]
    return shape.double * double + shape.single * single


class Floor:
    """Graphs of one variant, by part. Frees what it holds when it is dropped."""

    def __init__(self, variant, parts, tiny=False):
        shape = Shape(tiny)
        tokens = shape.image + shape.text
        self.operands = Operands()
        qkv = [torch.randn(1, tokens, shape.heads, shape.head_dim, device=DEVICE,
                           dtype=BF16).transpose(1, 2) for _ in range(3)]
        attention_flop = 4.0 * shape.heads * tokens**2 * shape.head_dim
        steps = forward_products(shape, variant)
        self.graphs = {}
        self.tflop = {}
        for part in parts:
            chosen = [step for step in steps if step[0] in PARTS[part]]

            def work(chosen=chosen):
                for step in chosen:
                    if step[0] == "a":
                        F.scaled_dot_product_attention(*qkv)
                    else:
                        self.operands.product(*step[1:])

            with torch.no_grad(), attention_backend():
                self.graphs[part] = gpu_timing.Repeatable(work)
            self.tflop[part] = 1e-12 * sum(
                attention_flop if step[0] == "a" else 2.0 * step[1] * step[2] * step[3]
                for step in chosen)


def attention_backend():
    """cuDNN's, the fastest in bf16 on Hopper; what there is on a CPU."""
    return sdpa_kernel([SDPBackend.CUDNN_ATTENTION] if CUDA else [SDPBackend.MATH])


def measure(floor, variant, args, sampler, **more):
    """A record for each part."""
    return [
        gpu_timing.measure("floor", variant, part, graph, args, sampler, tflop=floor.tflop[part],
                           **more)
        for part, graph in floor.graphs.items()
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu_timing.add_common_options(parser)
    parser.add_argument("--parts", default=",".join(PARTS), help=",".join(PARTS))
    args = parser.parse_args()
    torch.manual_seed(0)
    sampler = gpu_timing.ClockSampler()
    records = []
    for variant in gpu_timing.parse_variants(args.variants):
        floor = Floor(variant, args.parts.split(","), args.tiny or not CUDA)
        for record in measure(floor, variant, args, sampler):
            gpu_timing.show(record)
            records.append(record)
        del floor
        if CUDA:
            torch.cuda.empty_cache()
    sampler.close()
    if args.json:
        gpu_timing.write_json(args.json, gpu_timing.device_facts(), records)


if __name__ == "__main__":
    main()
