#!/usr/bin/env python3
"""The peer's video decoder: diffusers' AutoencoderKLWan.decode with random weights.

peer_vae.py [--diffusers DIR] [--vae wan21|wan22] [--variants bf16,f32] [--eager]
            [--width 832] [--height 480] [--frames 81] [--seconds 3] [--json F]

Latents of one video, [1, 16, 21, 60, 104] by default, to its frames, under torch.no_grad and with torch's
defaults: in float32 convolutions multiply in TF32 (said in the record), where dither's --vae-precision f32
multiplies in float32. Compiled: torch.compile of the decoder module, which the autoencoder calls once a
latent frame; where that fails the record says why. Memory is what torch had allocated and reserved at most
while it decoded, weights and output included. `dither bench` reports the other side as DecodingStage: its
milliseconds and its peak. The seed of everything is 0.

Needs torch and diffusers (--diffusers: a folder with the unpacked wheel). Without a GPU it runs a tiny model
on the CPU, which proves the script and nothing else.
"""
import argparse
import gc
import logging
import sys

import torch

import gpu_timing
from gpu_timing import CUDA, DEVICE

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
# Wan2.1's are diffusers' defaults; Wan2.2-TI2V-5B's are its vae/config.json's.
CONFIGS = {
    "wan21": {},
    "wan22": {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True,
              "in_channels": 12, "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16,
              "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48},
}
TINY = {"base_dim": 8, "num_res_blocks": 1}
TEMPORAL = 4  # frames to a latent one, after the first


class Peer:
    """One autoencoder of a dtype, with its latents on the device."""

    def __init__(self, args, dtype):
        from diffusers import AutoencoderKLWan
        config = {**CONFIGS[args.vae], **(TINY if args.tiny else {})}
        if args.tiny and "decoder_base_dim" in config:
            config["decoder_base_dim"] = 8
        torch.manual_seed(0)
        with torch.device(DEVICE):
            self.model = AutoencoderKLWan(**config)
        self.model.eval().requires_grad_(False).to(DTYPES[dtype])
        self.dtype = dtype
        self.shape = latent_shape(args, self.model.config)
        self.latents = torch.randn(self.shape, device=DEVICE).to(DTYPES[dtype])
        self.eager = self.model.decoder.forward
        self.reference = None

    @torch.no_grad()
    def __call__(self):
        return self.model.decode(self.latents, return_dict=False)[0]

    def prepare(self, mode):
        """The first run of a mode. What to say of it."""
        self.model.decoder.forward = self.eager
        if mode == "compiled":
            torch._dynamo.reset()
            self.model.decoder.forward = torch.compile(self.eager)
        frames = self()
        gpu_timing.synchronize()
        facts = {"latents": list(self.shape), "frames": list(frames.shape),
                 "finite": bool(torch.isfinite(frames).all())}
        if self.dtype == "f32":
            facts["tf32_convolutions"] = CUDA and torch.backends.cudnn.allow_tf32
        if self.reference is None:
            self.reference = frames.cpu()
        else:
            expected = self.reference.float()
            error = (frames.cpu().float() - expected).norm() / expected.norm()
            facts["relative_error_to_first_mode"] = float(error)
        del frames
        return {**facts, **self.peak()}

    def peak(self):
        """Of one more run, in which nothing is compiled or chosen any more."""
        if not CUDA:
            return {}
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self()
        gpu_timing.synchronize()
        return {"peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
                "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2)}


def latent_shape(args, config):
    """[1, z, F, h, w] of a video."""
    width, height, frames = (32, 32, 5) if args.tiny else (args.width, args.height, args.frames)
    scale = config.scale_factor_spatial
    if width % scale or height % scale or (frames - 1) % TEMPORAL:
        raise SystemExit(f"{width} x {height}, {frames} frames: width and height are multiples of "
                         f"{scale}, frames one more than a multiple of {TEMPORAL}")
    return 1, config.z_dim, (frames - 1) // TEMPORAL + 1, height // scale, width // scale


def measure(peer, mode, args, sampler):
    """One record. A mode that fails is one too."""
    try:
        facts = peer.prepare(mode)
        return gpu_timing.measure("peer", peer.dtype, mode, peer, args, sampler, **facts)
    except Exception as error:  # what torch.compile throws has many types
        if mode == "eager":
            raise
        return {"kind": "peer", "variant": peer.dtype, "part": mode,
                "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffusers", help="folder that holds the diffusers package")
    parser.add_argument("--vae", choices=CONFIGS, default="wan21")
    parser.add_argument("--eager", action="store_true", help="not compiled as well")
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--frames", type=int, default=81)
    gpu_timing.add_common_options(parser, variants="bf16,f32; by default both")
    args = parser.parse_args(arguments)
    args.variants = gpu_timing.parse_variants(args.variants, list(DTYPES))
    args.tiny = args.tiny or not CUDA
    return args


def main(arguments=None):
    args = parse_arguments(arguments)
    if args.diffusers:
        sys.path.insert(0, args.diffusers)
    logging.disable(logging.WARNING)
    import diffusers
    sampler = gpu_timing.ClockSampler()
    records = []
    for dtype in args.variants:
        peer = Peer(args, dtype)
        for mode in ("eager",) if args.eager else ("eager", "compiled"):
            records.append(measure(peer, mode, args, sampler))
            if "error" in records[-1]:
                print(f"peer   {dtype:<12} {mode:<20} failed: {records[-1]['error']}", flush=True)
            else:
                gpu_timing.show(records[-1])
            if args.json:
                gpu_timing.write_json(args.json, gpu_timing.device_facts(), records,
                                      diffusers=diffusers.__version__, vae=args.vae)
        del peer
        gc.collect()
        if CUDA:
            torch.cuda.empty_cache()
    sampler.close()


if __name__ == "__main__":
    main()
