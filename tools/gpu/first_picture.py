#!/usr/bin/env python3
"""Seconds from the start of a process to its first picture: dither with weights on disk, and a peer.

first_picture.py --dither build/cuda/bin/dither --folder DIR [--diffusers DIR] [--steps 28]
                 [--runs 2] [--json F]

FLUX.1-dev, 1024 x 1024, 512 text tokens. DIR gets a model folder of the true size (21 GiB, made-up
numbers, the transformer as a ModelOpt FP8 export) unless it holds one; writing it leaves it in the
page cache. dither: `dither generate`, a new process each time. The peer, a new process too:
diffusers' FluxPipeline in bf16, compile_repeated_blocks(), whose weights are made on the GPU: it
reads no file, which is in its favour. --peer is that process. Needs torch, transformers, safetensors.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "models/configs/flux1-dev"
TOKENIZERS = ROOT / "models/emoji-flux"
EXTENT, TEXT_TOKENS = 1024, 512


def read_config(component):
    return json.loads((CONFIGS / component / "config.json").read_text())


def make_modules(device, dtype):
    """The four networks of the shipped configs, with made-up weights on `device`."""
    import torch
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel
    torch.set_default_dtype(dtype)
    with torch.device(device):
        modules = {
            "text_encoder": CLIPTextModel(CLIPTextConfig(**read_config("text_encoder"))),
            "text_encoder_2": T5EncoderModel(T5Config(**read_config("text_encoder_2"))),
            "transformer": FluxTransformer2DModel.from_config(read_config("transformer")),
            "vae": AutoencoderKL.from_config(read_config("vae")),
        }
    torch.set_default_dtype(torch.float32)
    return modules


def write_model(folder):
    """A model folder whose files have the true shapes and sizes."""
    import torch
    from safetensors.torch import save_file
    from torch import nn
    import families
    shutil.copytree(CONFIGS, folder, dirs_exist_ok=True)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(TOKENIZERS / name, folder / name, dirs_exist_ok=True)
    kept = families.Flux1.kept["fp8-full"]
    generator = torch.Generator("cuda").manual_seed(0)

    def numbers(shape, scale):
        return torch.randn(shape, device="cuda", generator=generator) * scale

    for component, module in make_modules("meta", torch.bfloat16).items():
        tensors = {}
        linears = {name for name, part in module.named_modules() if isinstance(part, nn.Linear)}
        for name, value in module.state_dict().items():
            layer, _, leaf = name.rpartition(".")
            if not value.is_floating_point() or name == "encoder.embed_tokens.weight":
                continue
            if component == "transformer" and leaf == "weight" and layer in linears \
                    and not kept.match(layer):
                tensors[name] = numbers(value.shape, 100).to(torch.float8_e4m3fn).cpu()
                tensors[layer + ".weight_scale"] = torch.tensor(0.0002)
                tensors[layer + ".input_scale"] = torch.tensor(0.02)
            elif value.dim() == 1 and leaf == "weight":
                tensors[name] = torch.ones(value.shape, dtype=torch.bfloat16)
            else:
                tensors[name] = numbers(value.shape, 0.02).to(torch.bfloat16).cpu()
        stem = "model" if component.startswith("text") else "diffusion_pytorch_model"
        save_file(tensors, folder / component / f"{stem}.safetensors", {"format": "pt"})
        if component == "transformer":
            config = read_config(component)
            config["quantization_config"] = {
                "quant_method": "modelopt", "quant_algo": "FP8",
                "ignore": sorted(name for name in linears if kept.match(name))}
            (folder / component / "config.json").write_text(json.dumps(config, indent=2))


def draw_with_peer(args):
    sys.path.insert(0, args.diffusers)
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    modules = make_modules("cuda", torch.bfloat16)
    for module in modules.values():
        module.eval().requires_grad_(False)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        json.loads((CONFIGS / "scheduler/scheduler_config.json").read_text()))
    modules["transformer"].compile_repeated_blocks()
    pipeline = FluxPipeline(scheduler=scheduler, vae=modules["vae"], text_encoder=None,
                            tokenizer=None, text_encoder_2=None, tokenizer_2=None,
                            transformer=modules["transformer"])
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        ids = torch.ones(1, TEXT_TOKENS, dtype=torch.int64, device="cuda")
        embeds = modules["text_encoder_2"](ids)[0]
        pooled = modules["text_encoder"](ids[:, :77]).pooler_output
        picture = pipeline(prompt_embeds=embeds, pooled_prompt_embeds=pooled, height=EXTENT,
                           width=EXTENT, num_inference_steps=args.steps).images[0]
    picture.save(args.peer)


def seconds(command):
    begin = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    taken = time.monotonic() - begin
    if done.returncode != 0:
        raise SystemExit(f"{command[0]}: exit {done.returncode}\n{done.stdout.decode()[-2000:]}")
    return round(taken, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dither", default="build/cuda/bin/dither")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("flux1-dev-made-up"))
    parser.add_argument("--diffusers", help="folder that holds the diffusers package")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--more", default="", help="further arguments of dither generate")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return draw_with_peer(args)
    if args.diffusers:
        sys.path.insert(0, args.diffusers)
    if not (args.folder / "vae/diffusion_pytorch_model.safetensors").exists():
        begin = time.monotonic()
        write_model(args.folder)
        print(f"made the model in {time.monotonic() - begin:.0f} s", flush=True)
    size = sum(f.stat().st_size for f in args.folder.rglob("*.safetensors"))
    record = {"steps": args.steps, "files_gib": round(size / 2**30, 2), "dither_s": [], "peer_s": []}
    picture = args.folder / "picture.png"
    for _ in range(args.runs):
        record["dither_s"].append(seconds(
            [args.dither, "generate", "a red apple", "--model-path", os.fspath(args.folder),
             "--device", "cuda", "--num-inference-steps", str(args.steps), "-o",
             os.fspath(picture), "--strict-precision", "--perf-dump-path",
             os.fspath(args.folder / "perf.json"), *args.more.split()]))
        if args.diffusers:
            record["peer_s"].append(seconds(
                [sys.executable, __file__, "--peer", os.fspath(args.folder / "peer.png"),
                 "--diffusers", args.diffusers, "--steps", str(args.steps)]))
        print(json.dumps(record), flush=True)
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
