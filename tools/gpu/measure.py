#!/usr/bin/env python3
"""Dither against floor and peer: a family's step time, measured alternately in one run.

measure.py --dither build/cuda/bin/dither --diffusers DIR --json OUT.json
           [--family flux1|flux2|wan|wan720] [--variants bf16,fp8-profile,fp8-full] [--rounds 3]
           [--seconds 3] [--steps 50] [--candidate "NAME=ARGUMENTS OF dither bench"]...
           [--skip floor,peer]

Variant by variant: the peer is quantized and compiled and the floor's graphs are captured, both stay
warm in this process; then in every round floor, peer and each candidate (a process of its own:
`dither bench --load-format dummy --json`, one warm-up run first) are timed one after the other. All
ratios come from such rounds. Where the card has no room for all three (FLUX.2, Wan), the peer waits in
host memory and the floor is made anew in every round. OUT.json is written after every measurement, OUT.md
(report.py) beside it at the end; --time-limit ends a run in time, between two measurements.
"""
import argparse
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

import torch

import families
import floor as floors
import gpu_timing
import peer as peers
import report

STEP_KEYS = ("load_ms", "median_total_ms", "peak_device_bytes", "device_name")


class OutOfTime(Exception):
    pass


class Run:
    """The records so far, and how much time is left for more."""

    def __init__(self, family, args):
        self.args = args
        self.end = time.monotonic() + args.time_limit
        self.facts = gpu_timing.device_facts()
        self.records = []
        self.longest = {}  # seconds, by kind of measurement
        self.failed = set()  # not tried again
        self.more = {"family": family.name, "attention": args.attention, "fuse_qkv": args.fuse_qkv}
        if args.fp8_attention_us:
            self.more["fp8_attention_ms"] = family.fp8_attentions * args.fp8_attention_us * 1e-3

    def left(self):
        return self.end - time.monotonic()

    def take(self, kind, variant, part, work):
        """Appends what `work` returns, a record or several, or its failure, after which the same is
        not tried again."""
        if (kind, variant, part) in self.failed:
            return
        key = (kind, part)
        if self.left() < 1.1 * self.longest.get(key, 0):
            raise OutOfTime(f"{self.left():.0f} s were left, {kind} takes {self.longest[key]:.0f}")
        begin = time.monotonic()
        try:
            made = work()
        except Exception as error:  # the others still count
            self.failed.add((kind, variant, part))
            made = {"kind": kind, "variant": variant, "part": part,
                    "error": f"{type(error).__name__}: {error}"}
        self.longest[key] = max(self.longest.get(key, 0), time.monotonic() - begin)
        for record in made if isinstance(made, list) else [made]:
            self.records.append(record)
            if "error" in record:
                print(f"{kind} {variant} {part} FAILED: {record['error']}", flush=True)
            else:
                gpu_timing.show(record)
        self.write()

    def write(self):
        document = {**self.facts, **self.more, "records": self.records}
        if not self.args.json:
            return document
        gpu_timing.write_json(self.args.json, self.facts, self.records, **self.more)
        return document


def dither_command(family, args, variant, extra, json_path):
    command = [args.dither, "bench", args.prompt, "--model-path", args.model or family.config_folder,
               "--load-format", "dummy", "--device", args.device, "--warmup", "1",
               "--runs", str(args.runs), "--num-inference-steps", str(args.steps or family.steps),
               *family.bench_arguments, "--json", json_path]
    if variant != "bf16":
        command += ["--dummy-quantization", variant]
    return command + shlex.split(extra)


def run_dither(family, args, variant, name, extra, sampler, timeout_s, **more):
    """A record of one `dither bench`: the steps of its runs, once each is as warm as floor and peer
    are when they are timed. "all_steps_ms" is the command's own median."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        command = dither_command(family, args, variant, extra, path)
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
        if done.returncode != 0:
            raise RuntimeError(f"exit {done.returncode}: {done.stderr.strip()[-600:]}")
        clocks = sampler.between(begin, time.monotonic(), least_power=0.8)
        with open(path) as file:
            document = json.load(file)
    result = document["results"][0]
    steps = report.sustained_steps(
        [sample["denoise_steps_ms"] for sample in result["samples"]], args.warm_seconds * 1e3)
    stages = {stage: statistics.median(sample["stages_ms"][stage] for sample in result["samples"])
              for stage in result["samples"][0]["stages_ms"]}
    facts = {key: result[key] for key in STEP_KEYS if key in result}
    record = gpu_timing.record_of("dither", variant, name, steps, clocks, stages_ms=stages,
                                  all_steps_ms=result["median_step_ms"],
                                  command=shlex.join(command), **facts, **more)
    record["commit_hash"] = document.get("commit_hash")
    if result.get("peak_device_bytes"):
        record["peak_memory_gib"] = round(result["peak_device_bytes"] / 2**30, 2)
    return record


def parse_candidates(texts):
    """[(name, arguments)]; "dither" without arguments where none are given."""
    candidates = []
    for text in texts or ["dither="]:
        name, separator, extra = text.partition("=")
        if not separator or not name:
            raise SystemExit(f"--candidate {text}: must be NAME=ARGUMENTS, \"dither=\" for none")
        candidates.append((name, extra))
    return candidates


def measure_variant(run, family, args, variant, peer, sampler):
    peer_facts = None
    if peer is not None:
        peer.quantize(variant)
        peer_facts = peer.compile(args.attention, not args.eager)
        print(f"peer {variant}: {peer_facts}", flush=True)
        if family.parked:
            peer.park()
    floor = None
    for number in range(args.rounds):
        if "floor" not in args.skip:
            if floor is None:
                floor = floors.Floor(family, variant, args.parts.split(","))
            run.take("floor", variant, "", lambda n=number: floors.measure(
                floor, variant, args, sampler, round=n))
            if family.parked:
                floor = None
                peers.tidy()
        if peer is not None:
            if family.parked:
                peer.unpark()
            run.take("peer", variant, "", lambda n=number: peers.measure(
                peer, args, sampler, peer_facts, round=n))
            if family.parked:
                peer.park()
        if "dither" in args.skip:
            continue
        for name, extra in args.candidates:
            run.take("dither", variant, name, lambda n=number, name=name, extra=extra: run_dither(
                family, args, variant, name, extra, sampler, max(1, run.left()), round=n))
    if peer is not None and family.parked:
        peer.unpark()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    gpu_timing.add_common_options(parser)
    families.add_family_option(parser)
    peers.add_options(parser)
    parser.add_argument("--parts", default=",".join(floors.PARTS), help="of the floor")
    parser.add_argument("--rounds", type=int, default=3, help="floor, peer, candidates: 3 times")
    parser.add_argument("--skip", default="", help="a list of floor, peer, dither")
    parser.add_argument("--time-limit", type=float, default=540, help="seconds of the whole run")
    parser.add_argument("--fp8-attention-us", type=float,
                        help="of one isolated FP8 attention, for floor D")
    parser.add_argument("--dither", default="build/cuda/bin/dither", help="the command")
    parser.add_argument("--candidate", action="append", metavar="NAME=ARGUMENTS",
                        help="dither bench with further arguments; repeatable")
    parser.add_argument("--model", help="by default the family's folder of configs")
    parser.add_argument("--device", default="cuda" if gpu_timing.CUDA else "cpu")
    parser.add_argument("--prompt", default="a red apple")
    parser.add_argument("--steps", type=int, help="of dither, as many as take seconds")
    parser.add_argument("--runs", type=int, default=1, help="of dither, after a warm-up run")
    args = parser.parse_args()
    args.skip = set(filter(None, args.skip.split(",")))
    args.candidates = parse_candidates(args.candidate)
    return args


def main():
    args = parse_arguments()
    torch.manual_seed(0)
    family = families.FAMILIES[args.family](args.tiny or not gpu_timing.CUDA)
    variants = gpu_timing.parse_variants(args.variants, family.variants)
    sampler = gpu_timing.ClockSampler()
    run = Run(family, args)
    try:
        peer = None
        if "peer" not in args.skip:
            peer = peers.Peer(family, args)
            run.more["diffusers"] = peer.version
        for variant in variants:
            measure_variant(run, family, args, variant, peer, sampler)
            peers.tidy()  # the floor's weights
    except OutOfTime as reason:
        run.more["stopped"] = str(reason)
    finally:
        sampler.close()
        document = run.write()
    text = report.markdown(document)
    if args.json:
        pathlib.Path(args.json).with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
