#!/usr/bin/env python3
"""Time diffusers' FluxPipeline on the CPU: the peer of Dither's CPU benchmark. Development only.

bench_diffusers.py --model-path models/emoji-flux --threads 2 --runs 5 [--dtype bf16] [--compile]

Needs torch, diffusers, transformers, sentencepiece and protobuf. Prints JSON, one row for each
dtype (and for torch.compile, which compiles transformer and VAE decoder):
  warm_s         prompt to PNG on disk in a warm process: median, min, max of --runs
  step_ms        one denoising step in those runs: median, min, max
  peak_rss_mib   of the warm process; its imports, model and runs
  first_s        the first picture of the process (includes compilation)
  cold_start_s   start of a fresh Python process to PNG on disk: median, min, max of --cold-runs
Every row runs in processes of its own, so that no row warms another's caches.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = "a red apple"


def spread(values, digits=3):
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def load_pipeline(args):
    import torch
    from diffusers import FluxPipeline

    torch.set_num_threads(args.threads)
    dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.dtype]
    pipe = FluxPipeline.from_pretrained(args.model_path, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    if args.compile:
        pipe.transformer = torch.compile(pipe.transformer)
        pipe.vae.decode = torch.compile(pipe.vae.decode)
    return pipe


def generate(pipe, path, seed):
    """Draws one picture into `path`; returns the times at which its steps ended."""
    import torch

    step_ends = []

    def on_step_end(_pipe, _step, _timestep, tensors):
        step_ends.append(time.perf_counter())
        return tensors

    image = pipe(
        PROMPT,
        height=128,
        width=128,
        num_inference_steps=20,
        guidance_scale=3.5,
        max_sequence_length=64,
        generator=torch.Generator("cpu").manual_seed(seed),
        callback_on_step_end=on_step_end,
    ).images[0]
    image.save(path)
    return step_ends


def warm_worker(args, folder):
    import resource

    import diffusers
    import torch

    pipe = load_pipeline(args)
    path = os.path.join(folder, "warm.png")
    start = time.perf_counter()
    generate(pipe, path, seed=0)
    first_s = time.perf_counter() - start
    for _ in range(args.warmup - 1):
        generate(pipe, path, seed=0)
    pictures, steps = [], []
    for run in range(args.runs):
        start = time.perf_counter()
        ends = generate(pipe, path, seed=run)
        pictures.append(time.perf_counter() - start)
        steps += [(b - a) * 1e3 for a, b in zip(ends, ends[1:])]
    return {
        "warm_s": spread(pictures),
        "step_ms": spread(steps, 2),
        "first_s": round(first_s, 3),
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
    }


def worker_command(args, mode, dtype, compiled):
    command = [sys.executable, os.path.abspath(__file__), "--worker", mode, "--dtype", dtype]
    for option in ("model_path", "threads", "runs", "warmup"):
        command += ["--" + option.replace("_", "-"), str(getattr(args, option))]
    return command + (["--compile"] if compiled else [])


def last_line(command, env):
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return result.stdout.splitlines()[-1]


def row(args, dtype, compiled):
    env = os.environ | {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    result = {"dtype": dtype, "compile": compiled, "threads": args.threads}
    result |= json.loads(last_line(worker_command(args, "warm", dtype, compiled), env))
    if not compiled and args.cold_runs > 0:  # a cold process would measure the compiler
        cold = []
        for _ in range(args.cold_runs):
            start = time.time()
            # The worker reports when its PNG was complete; its shutdown is not counted.
            cold.append(float(last_line(worker_command(args, "cold", dtype, False), env)) - start)
        result["cold_start_s"] = spread(cold)
    return result


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-path", default="models/emoji-flux")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2, help="pictures before the timed ones")
    parser.add_argument("--cold-runs", type=int, default=3)
    parser.add_argument("--dtype", choices=("bf16", "f32"), help="default: both")
    parser.add_argument("--compile", action="store_true", help="add rows with torch.compile")
    parser.add_argument("--worker", choices=("warm", "cold"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_arguments()
    if args.worker:
        with tempfile.TemporaryDirectory() as folder:
            if args.worker == "warm":
                print(json.dumps(warm_worker(args, folder)))
            else:
                generate(load_pipeline(args), os.path.join(folder, "cold.png"), seed=0)
                print(time.time())
        return
    rows = []
    for compiled in (False, True) if args.compile else (False,):
        for dtype in (args.dtype,) if args.dtype else ("bf16", "f32"):
            rows.append(row(args, dtype, compiled))
    print(json.dumps({"prompt": PROMPT, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
