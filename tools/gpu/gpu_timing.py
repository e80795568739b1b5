"""What floor.py, peer.py and measure.py share: sustained timing, clocks, JSON.

A card under its power cap runs a kernel 15 % slower after a second than in the first millisecond
(H200, 2026-11), so everything is timed back to back for seconds, after warming up, and the SM
clock and the power of that time are part of the record.
"""
import datetime
import json
import statistics
import subprocess
import threading
import time

import torch

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def synchronize():
    if CUDA:
        torch.cuda.synchronize()


def device_facts():
    """What a reader must know to judge the numbers."""
    facts = {"torch": torch.__version__, "date": datetime.date.today().isoformat()}
    if not CUDA:
        return {"device": "cpu", **facts}
    properties = torch.cuda.get_device_properties(0)
    facts["cuda"] = torch.version.cuda
    facts["cudnn"] = torch.backends.cudnn.version()
    facts["multiprocessors"] = properties.multi_processor_count
    facts["memory_gib"] = round(properties.total_memory / 2**30, 1)
    for name, value in query_gpu("driver_version,power.limit,clocks.max.sm").items():
        facts[name] = value
    return {"device": properties.name, **facts}


def query_gpu(fields):
    """{field: text}; empty where nvidia-smi does not know."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-i", "0", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = done.stdout.strip().split(", ")
    names = fields.split(",")
    return dict(zip(names, values)) if done.returncode == 0 and len(values) == len(names) else {}


class ClockSampler:
    """SM clock, power and temperature of GPU 0, ten times a second, in a thread of its own."""

    FIELDS = "clocks.sm,power.draw,temperature.gpu"

    def __init__(self, interval_ms=100):
        self.samples = []  # (time.monotonic(), MHz, W, C)
        self.process = None
        if not query_gpu(self.FIELDS):
            return
        self.process = subprocess.Popen(
            ["nvidia-smi", "-i", "0", f"--query-gpu={self.FIELDS}",
             "--format=csv,noheader,nounits", "-lms", str(interval_ms)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            try:
                self.samples.append((time.monotonic(), *map(float, line.split(","))))
            except ValueError:
                continue  # "[N/A]"

    def between(self, begin, end, least_power=0.0):
        """Medians and extremes of the samples taken from `begin` to `end`; None without samples.
        `least_power` leaves out those that draw less than this share of the most: the idle times
        of another process' run, which cannot be seen from here."""
        samples = [sample[1:] for sample in list(self.samples) if begin <= sample[0] <= end]
        if not samples:
            return None
        most = max(power for _, power, _ in samples)
        clocks, powers, temperatures = zip(*(s for s in samples if s[1] >= least_power * most))
        return {
            "samples": len(clocks),
            "sm_mhz_median": statistics.median(clocks),
            "sm_mhz_min": min(clocks),
            "sm_mhz_max": max(clocks),
            "power_w_median": round(statistics.median(powers), 1),
            "power_w_max": round(max(powers), 1),
            "temperature_c_max": max(temperatures),
        }

    def close(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Repeatable:
    """Work captured in a CUDA graph; on the CPU, where there are none, the work itself."""

    def __init__(self, work):
        self.work = work
        work()  # allocates, chooses algorithms
        synchronize()
        self.graph = None
        if CUDA:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                work()
            self.graph.replay()
            synchronize()

    def __call__(self):
        if self.graph is not None:
            self.graph.replay()
        else:
            self.work()


def time_sustained(run, seconds, warm_seconds, at_least=3):
    """Milliseconds of each call, back to back for `seconds` or so after `warm_seconds` of them."""
    begin = time.monotonic()
    calls = 0
    while calls < 1 or time.monotonic() - begin < warm_seconds:
        run()
        calls += 1
        synchronize()
    estimate = (time.monotonic() - begin) / calls
    count = max(at_least, round(seconds / estimate))
    if not CUDA:
        times = []
        for _ in range(count):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        return times
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    synchronize()
    return [a.elapsed_time(b) for a, b in zip(events, events[1:])]


def record_of(kind, variant, part, times, clocks=None, **more):
    """One measurement, as every script here writes it."""
    return {
        "kind": kind,  # "floor", "peer", "dither"
        "variant": variant,  # the family's
        "part": part,  # what of it: "all", "compiled", a candidate's name
        "ms": statistics.median(times),
        "ms_min": min(times),
        "ms_max": max(times),
        "samples": len(times),
        "clocks": clocks,
        **more,
    }


def measure(kind, variant, part, run, args, sampler, **more):
    """Times `run` as args.seconds and args.warm_seconds say."""
    begin = time.monotonic()
    times = time_sustained(run, args.seconds, args.warm_seconds)
    begin = max(begin, time.monotonic() - sum(times) * 1e-3)  # without the warm-up
    return record_of(kind, variant, part, times, sampler.between(begin, time.monotonic()), **more)


def show(record):
    clocks = record.get("clocks")
    suffix = ""
    if clocks:
        suffix = f"  {clocks['sm_mhz_median']:.0f} MHz {clocks['power_w_median']:.0f} W"
    if record.get("tflop"):
        suffix = f"  {record['tflop'] / record['ms'] * 1e3:.0f} TFLOP/s" + suffix
    print(f"{record['kind']:<7} {record['variant']:<12} {record['part']:<20} "
          f"{record['ms']:9.2f} ms ({record['ms_min']:.2f} .. {record['ms_max']:.2f}, "
          f"n={record['samples']}){suffix}",
          flush=True)


def write_json(path, facts, records, **more):
    """Written whole after every record, so that a run that is cut off leaves what it had."""
    with open(path, "w") as file:
        json.dump({**facts, **more, "records": records}, file, indent=1)
        file.write("\n")


def add_common_options(parser, variants="bf16,fp8-profile,fp8-full; by default all of the family"):
    parser.add_argument("--variants", help=variants)
    parser.add_argument("--seconds", type=float, default=3, help="measured, each")
    parser.add_argument("--warm-seconds", type=float, default=1, help="of the same before it")
    parser.add_argument("--json", help="write the records to this file")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")


def parse_variants(text, variants):
    """In the order of `variants`, all of them for None: a model is quantized further from one to the
    next."""
    wanted = text.split(",") if text else variants
    unknown = [name for name in wanted if name not in variants]
    if unknown:
        raise SystemExit(f"--variants: {', '.join(unknown)}: not one of {', '.join(variants)}")
    return [name for name in variants if name in wanted]
