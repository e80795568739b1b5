#!/usr/bin/env python3
"""How fast a model loads, beside the rates that bound it, in one run.

loading.py --dither build/cuda/bin/dither --model DIR [--device cuda] [--runs 2] [--threads 4]
           [--more "ARGUMENTS OF dither bench"] [--json F]

DIR is a model folder with weights, such as first_picture.py leaves. In every round: its weight files are
dropped from the page cache and read (disk), read again (page cache), copied from pinned memory to the
device (PCIe; needs torch and a GPU, else there is no such line), and `dither bench` loads them, once with
the files dropped again and once with them in the page cache. "resident" is the share of the files that
was in the page cache before: a file system that does not let go of pages has no cold rate, and shows it.
"""
import argparse
import concurrent.futures
import ctypes
import json
import mmap
import os
import pathlib
import shlex
import statistics
import subprocess
import tempfile
import time

CHUNK_BYTES = 16 << 20


def weight_files(model):
    files = sorted(model.rglob("*.safetensors"))
    if not files:
        raise SystemExit(f"{model}: no .safetensors")
    return files


def drop(files):
    """Out of the page cache, as far as the system follows."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_share(files):
    """Of the files' pages, those in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    present = total = 0
    for path in files:
        size = path.stat().st_size
        if size == 0:
            continue
        with open(path, "rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as view:
            pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
            first = ctypes.c_byte.from_buffer(view)
            if libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages):
                raise OSError(ctypes.get_errno(), f"mincore {path}")
            del first  # which the mapping could not be closed before
        present += sum(page & 1 for page in pages)
        total += len(pages)
    return present / max(total, 1)


def read_files(files, threads):
    """Seconds that reading every byte takes, `threads` chunks at a time."""
    chunks = [(path, at) for path in files for at in range(0, path.stat().st_size, CHUNK_BYTES)]

    def read(part):
        buffer = bytearray(CHUNK_BYTES)
        for path, at in chunks[part::threads]:
            with open(path, "rb", buffering=0) as file:
                file.seek(at)
                file.readinto(buffer)

    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
    return time.monotonic() - begin


def pcie_rate(device):
    """Bytes a second from pinned memory to the GPU; None without one."""
    if device != "cuda":
        return None
    import torch
    host = torch.empty(1 << 30, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device="cuda")
    rates = []
    for _ in range(8):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        there.copy_(host, non_blocking=True)
        end.record()
        torch.cuda.synchronize()
        rates.append(host.numel() / (begin.elapsed_time(end) * 1e-3))
    return statistics.median(rates[1:])


def load_with_dither(args):
    """The result of a `dither bench` of one step."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        command = [args.dither, "bench", "a red apple", "--model-path", os.fspath(args.model),
                   "--device", args.device, "--warmup", "0", "--runs", "1", "--num-inference-steps",
                   "1", "--json", path, *shlex.split(args.more)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        with open(path) as file:
            return json.load(file)["results"][0]


def rate_record(what, size, seconds, resident=None):
    record = {"what": what, "bytes": size, "seconds": round(seconds, 4),
              "gb_per_s": round(size / seconds * 1e-9, 3)}
    if resident is not None:
        record["resident"] = round(resident, 4)
    return record


def measure_round(args, files):
    size = sum(path.stat().st_size for path in files)
    records = []
    for what, cold in [("disk", True), ("page cache", False)]:
        if cold:
            drop(files)
        share = resident_share(files)
        records.append(rate_record(what, size, read_files(files, args.threads), share))
    rate = pcie_rate(args.device)
    if rate is not None:
        records.append(rate_record("PCIe", 1 << 30, (1 << 30) / rate))
    for what, cold in [("dither, from disk", True), ("dither, from page cache", False)]:
        if cold:
            drop(files)
        share = resident_share(files)
        result = load_with_dither(args)
        seconds = (result["load_ms"] - result["device_ms"]) * 1e-3
        records.append({**rate_record(what, result["weight_bytes"], seconds, share),
                        "load_ms": result["load_ms"], "device_ms": result["device_ms"],
                        "residency": result["residency"]})
    return records


def table(rounds):
    """Medians of the rounds, as Markdown."""
    lines = ["| | GB | s | GB/s | resident before |", "| --- | --- | --- | --- | --- |"]
    for records in zip(*rounds):
        def middle(key, of=records):
            return statistics.median(record[key] for record in of)
        share = f"{100 * middle('resident'):.0f} %" if "resident" in records[0] else ""
        lines.append(f"| {records[0]['what']} | {middle('bytes') * 1e-9:.3f} | "
                     f"{middle('seconds'):.2f} | {middle('gb_per_s'):.2f} | {share} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dither", default="build/cuda/bin/dither")
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=4, help="that read files at a time")
    parser.add_argument("--more", default="", help="further arguments of dither bench")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    files = weight_files(args.model)
    rounds = [measure_round(args, files) for _ in range(args.runs)]
    print(table(rounds))
    if args.json:
        args.json.write_text(json.dumps({"model": os.fspath(args.model), "device": args.device,
                                         "threads": args.threads, "more": args.more,
                                         "rounds": rounds}, indent=2) + "\n")


if __name__ == "__main__":
    main()
