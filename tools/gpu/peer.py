#!/usr/bin/env python3
"""The peer: diffusers' transformer, random weights, compiled, in bf16 and static FP8.

peer.py [--family flux1|flux2|wan|wan720] [--diffusers DIR] [--variants bf16,fp8-full]
        [--seconds 3] [--eager] [--fuse-qkv] [--attention cudnn|native] [--json F]

The transformer of a family at the shapes in families.py, under torch.no_grad. Compiled:
compile_repeated_blocks(), diffusers' regional torch.compile. FP8: every linear layer of the variant
multiplies E4M3 by E4M3 (torch._scaled_mm, fast accumulation, fused bias) with a weight scale of
amax / 448 and a static input scale calibrated on one forward; fp8-full follows ModelOpt's filter,
fp8-profile leaves what SGLang's converter takes back in bf16. --attention cudnn is diffusers'
"_native_cudnn", native what torch chooses. The seed of everything is 0.

Needs torch, transformers and diffusers (--diffusers: a folder with the unpacked wheel). Without a GPU
it runs a tiny model on the CPU, which proves the script and nothing else.
"""
import argparse
import gc
import logging
import sys
import time

import torch
from torch import nn

import families
import gpu_timing
from gpu_timing import CUDA, DEVICE

BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn
E4M3_MAX = 448.0

def scaled_mm(x, weight, x_scale, weight_scale, bias):
    if CUDA:
        return torch._scaled_mm(x, weight.t(), scale_a=x_scale, scale_b=weight_scale, bias=bias,
                                out_dtype=BF16, use_fast_accum=True)
    y = x.float() @ weight.float().t() * (x_scale * weight_scale)
    return (y if bias is None else y + bias.float()).to(BF16)


def one_row_works():
    """Some cuBLASLt versions refuse FP8 products of a single row."""
    try:
        scaled_mm(torch.ones(1, 256, device=DEVICE).to(E4M3),
                  torch.ones(256, 256, device=DEVICE).to(E4M3), torch.ones((), device=DEVICE),
                  torch.ones((), device=DEVICE), None)
        return True
    except RuntimeError:
        return False


class Fp8Linear(nn.Module):
    """A linear layer as a static W8A8 one, from its weight and the largest input seen."""

    def __init__(self, linear, input_amax, pad_one_row):
        super().__init__()
        weight = linear.weight.data
        scale = (weight.abs().amax().float() / E4M3_MAX).reshape(())
        input_scale = (input_amax.float() / E4M3_MAX).reshape(()).clamp_min(1e-8)
        self.register_buffer("weight", (weight.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3))
        self.register_buffer("weight_scale", scale)
        self.register_buffer("input_scale", input_scale)
        self.register_buffer("inverse", 1 / input_scale)
        self.bias = linear.bias
        self.out_features, self.in_features = weight.shape
        self.pad_one_row = pad_one_row

    def forward(self, x):
        rows = x.reshape(-1, self.in_features)
        codes = (rows * self.inverse).clamp(-E4M3_MAX, E4M3_MAX).to(E4M3)
        pad = self.pad_one_row and rows.shape[0] == 1
        if pad:
            codes = codes.view(torch.uint8).expand(16, -1).contiguous().view(E4M3)
        y = scaled_mm(codes, self.weight, self.input_scale, self.weight_scale, self.bias)
        return (y[:1] if pad else y).view(*x.shape[:-1], self.out_features)


class Peer:
    """The model with its inputs; quantize() takes it from one variant to the next."""

    def __init__(self, family, args):
        if args.diffusers:
            sys.path.insert(0, args.diffusers)
        # Variants are compiled one after the other in one process; entries outlived their model.
        import torch._dynamo
        import torch._functorch.config
        torch._functorch.config.enable_autograd_cache = False
        logging.disable(logging.WARNING)
        import diffusers
        self.version = diffusers.__version__
        self.family = family
        torch.manual_seed(0)
        torch.set_default_dtype(BF16)
        with torch.device(DEVICE):
            self.model = family.peer_class()(**family.peer_config())
        torch.set_default_dtype(torch.float32)
        self.model.eval().requires_grad_(False)
        for name, parameter in self.model.named_parameters():
            if any(part in name.split(".") for part in family.float32_modules):
                parameter.data = parameter.data.float()
        if args.fuse_qkv:
            self.model.fuse_qkv_projections()
        self.inputs = {**family.peer_inputs(), "return_dict": False}
        self.pad_one_row = not one_row_works()
        self.variant = "bf16"
        self.amax = {}
        self.calibrate()

    @torch.no_grad()
    def __call__(self):
        return self.model(**self.inputs)[0]

    def calibrate(self):
        """The largest input of every linear layer in a forward; layers that have none are dropped."""
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Linear):
                def note(_module, inputs, name=name):
                    amax = inputs[0].abs().amax()
                    self.amax[name] = torch.maximum(amax, self.amax.get(name, amax))
                handles.append(module.register_forward_pre_hook(note))
        self.reference = self().float()
        for handle in handles:
            handle.remove()
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.Linear) and name not in self.amax:  # q, k, v after fusing
                self.replace(name, nn.Identity())
        tidy()

    def quantize(self, variant):
        """From one of the family's variants to a later one; the weights in bf16 are freed."""
        if variant == self.variant:
            return
        for name, module in list(self.model.named_modules()):
            if isinstance(module, nn.Linear) and not self.family.kept[variant].match(name):
                self.replace(name, Fp8Linear(module, self.amax[name], self.pad_one_row))
                module.weight = None
        self.variant = variant
        tidy()

    def compile(self, attention, compiled):
        """Compiles anew and runs twice. Seconds that took, error against bf16, graph breaks, peak
        memory with weights."""
        blocks = set(self.model._repeated_blocks)
        for module in self.model.modules():
            if module.__class__.__name__ in blocks:
                module._compiled_call_impl = None
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        for name in ("cache_size_limit", "recompile_limit"):
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, 64)
        # Also a process-wide default, which reset_attention_backend() would leave in place.
        self.model.set_attention_backend("_native_cudnn" if attention == "cudnn" and CUDA
                                         else "native")
        if compiled:
            self.model.compile_repeated_blocks()
        begin = time.monotonic()
        self()
        if CUDA:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        output = self().float()
        gpu_timing.synchronize()
        error = float((output - self.reference).norm() / self.reference.norm())
        facts = {"prepare_s": round(time.monotonic() - begin, 1), "relative_error": error,
                 "finite": bool(torch.isfinite(output).all()),
                 "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values())}
        if CUDA:  # of what this process holds: nothing else, when called before a Floor is made
            facts["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return facts

    def park(self):
        """Moves the weights to host memory, so that others have the device's. What was compiled
        stays valid: it reads the weights where they are."""
        for value in self.weights():
            value.data = value.data.cpu()
        tidy()

    def unpark(self):
        for value in self.weights():
            value.data = value.data.to(DEVICE)

    def weights(self):
        return [*self.model.parameters(), *self.model.buffers()]

    def replace(self, name, module):
        parent, _, leaf = name.rpartition(".")
        owner = self.model.get_submodule(parent)
        if isinstance(owner, nn.ModuleList):
            owner[int(leaf)] = module
        else:
            setattr(owner, leaf, module)


def tidy():
    """Returns freed memory to the device, for the processes beside this one."""
    gc.collect()
    if CUDA:
        torch.cuda.empty_cache()


def measure(peer, args, sampler, facts, **more):
    """One record; `facts` are compile()'s."""
    return gpu_timing.measure("peer", peer.variant, "eager" if args.eager else "compiled", peer,
                              args, sampler, **facts, **more)


def add_options(parser):
    parser.add_argument("--diffusers", help="folder that holds the diffusers package")
    parser.add_argument("--attention", choices=("cudnn", "native"), default="cudnn")
    parser.add_argument("--eager", action="store_true", help="not compiled")
    parser.add_argument("--fuse-qkv", action="store_true", help="fuse_qkv_projections() first")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu_timing.add_common_options(parser)
    families.add_family_option(parser)
    add_options(parser)
    args = parser.parse_args()
    sampler = gpu_timing.ClockSampler()
    family = families.FAMILIES[args.family](args.tiny or not CUDA)
    peer = Peer(family, args)
    records = []
    for variant in gpu_timing.parse_variants(args.variants, family.variants):
        peer.quantize(variant)
        facts = peer.compile(args.attention, not args.eager)
        records.append(measure(peer, args, sampler, facts))
        gpu_timing.show(records[-1])
        if args.json:
            gpu_timing.write_json(args.json, gpu_timing.device_facts(), records,
                                  diffusers=peer.version, attention=args.attention,
                                  fuse_qkv=args.fuse_qkv)
    sampler.close()


if __name__ == "__main__":
    main()
