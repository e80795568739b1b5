#!/usr/bin/env python3
"""The floor of a denoising step: its matrix products and attentions alone, as fast as libraries do it.

floor.py [--family flux1|flux2|wan|wan720] [--variants bf16,fp8-full] [--parts all,core,gemm,attention]
         [--seconds 3] [--json F]

One CUDA graph per row, replayed back to back for --seconds: cuBLASLt through torch (bf16: linear, fp8:
_scaled_mm with fast accumulation) and cuDNN's bf16 attention, of the shapes in families.py. No bias, no
element-wise work, no quantization of activations; weights rotate among copies so that they come from
memory.
  all        every product and attention of a forward, modulation (M = 1) included: floor C
  core       the same without modulation, which a runtime can do once for all steps
  gemm       products, modulation and cross-attention: what FP8 self-attention leaves
  attention  attentions only
Needs torch; no GPU: it runs tiny shapes on the CPU, which proves the script and nothing else.
"""
import argparse

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import families
import gpu_timing
from gpu_timing import CUDA, DEVICE

PARTS = {"all": "gmax", "core": "gax", "gemm": "gmx", "attention": "ax"}
BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn


class Operands:
    """Random activations and weights by shape. A product takes the next of several weights."""

    BYTES_A_SHAPE = 2e9  # more than the second-level cache holds, less than memory

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


class Floor:
    """Graphs of one variant of a family, by part. Frees what it holds when it is dropped."""

    def __init__(self, family, variant, parts):
        self.operands = Operands()
        steps = family.step(variant)
        qkv = {step[1:]: attention_operands(*step[1:], family.head_dim)
               for step in steps if step[0] in "ax"}
        self.graphs = {}
        self.tflop = {}
        for part in parts:
            chosen = [step for step in steps if step[0] in PARTS[part]]

            def work(chosen=chosen):
                for kind, *shape in chosen:
                    if kind in "ax":
                        F.scaled_dot_product_attention(*qkv[tuple(shape)])
                    else:
                        self.operands.product(*shape)

            with torch.no_grad(), attention_backend():
                self.graphs[part] = gpu_timing.Repeatable(work)
            self.tflop[part] = 1e-12 * sum(flop(step, family.head_dim) for step in chosen)


def attention_operands(heads, q_tokens, k_tokens, head_dim):
    return [torch.randn(1, tokens, heads, head_dim, device=DEVICE, dtype=BF16).transpose(1, 2)
            for tokens in (q_tokens, k_tokens, k_tokens)]


def flop(step, head_dim):
    kind, *shape = step
    if kind in "ax":
        heads, q_tokens, k_tokens = shape
        return 4.0 * heads * q_tokens * k_tokens * head_dim
    m, n, k, _ = shape
    return 2.0 * m * n * k


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
    families.add_family_option(parser)
    parser.add_argument("--parts", default=",".join(PARTS), help=",".join(PARTS))
    args = parser.parse_args()
    torch.manual_seed(0)
    sampler = gpu_timing.ClockSampler()
    records = []
    family = families.FAMILIES[args.family](args.tiny or not CUDA)
    for variant in gpu_timing.parse_variants(args.variants, family.variants):
        floor = Floor(family, variant, args.parts.split(","))
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
