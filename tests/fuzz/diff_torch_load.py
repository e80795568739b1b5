#!/usr/bin/env python3
"""Mutated .pt files, read by Dither and by torch: what Dither accepts, torch must accept.

    python diff_torch_load.py --probe BUILD/bin/torch_file_probe [--mutants 100000] [--seed 0]
                              [--keep FOLDER]

The mutants come from the corpus of torch_file_fuzz, the ModelOpt goldens and files that torch
writes here: raw bytes, zip structures, members, and the pickle's opcodes. Every mutant that Dither
accepts is loaded with torch.load(weights_only=True, map_location="cpu"). A refusal is printed, kept
in FOLDER, and makes the exit status 1. Mutants that name a global below "modelopt_state" which only
Dither accepts are counted apart.
"""
import argparse
import collections
import io
import pathlib
import pickletools
import random
import struct
import subprocess
import sys
import warnings
import zipfile

import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
TORCH_GLOBALS = [
    "collections\nOrderedDict", "collections\nCounter", "torch._utils\n_rebuild_tensor_v2",
    "torch._utils\n_rebuild_tensor_v3", "torch._utils\n_rebuild_parameter", "torch\nSize",
    "torch\ndevice", "_codecs\nencode", "__builtin__\nset", "builtins\nset",
    "torch.storage\nUntypedStorage", "torch.nn.parameter\nParameter", "torch\nfloat8_e4m3fn",
    "torch\nfloat8_e8m0fnu", "torch\nint64", "torch\nuint16", "torch\nbool", "torch\nFloatStorage",
    "torch\nLongStorage", "torch\nBoolStorage", "torch\nTensor", "torch\nfloat", "torch\ncomplex64",
    "torch._utils\n_rebuild_sparse_tensor", "torch._utils\n_rebuild_qtensor", "builtins\nbytearray",
    "torch._tensor\n_rebuild_from_type_v2", "torch\nComplexFloatStorage", "os\nsystem",
    "builtins\neval", "torch\nFloatStorage\r"]
INTERESTING = [0, 1, 2, 3, 4, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31,
               2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
NO_ARGUMENT = [b"(", b".", b"N", b"Q", b"R", b"]", b"a", b"b", b"e", b"s", b"t", b"u", b"}", b")",
               b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8f", b"0", b"1", b"2"]


def torch_file(value, legacy=False):
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def seeds():
    """(weight, bytes): large files are drawn rarely."""
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    plain = collections.OrderedDict(
        a=base, t=base.t(), w=base[1:, 2:], p=torch.nn.Parameter(base[0]), i=torch.arange(3),
        g=torch.zeros(2, requires_grad=True), q=base.to(torch.float8_e4m3fn),
        e=torch.empty(0, 3), x=base[0, :1].expand(2, 8), u=torch.arange(3).to(torch.uint16))
    state = {"modelopt_version": "0.47.0", "modelopt_state_dict": [
        ("quantize", {"config": {"n": (4, 3), "b": {-1: 16}}, "metadata": {}}),
        ("max_calibrate", {"config": {"f": 0.5, "s": {"x"}, "d": torch.device("cuda:0"),
                                      "y": b"\x00\xff", "c": collections.Counter("aab")},
                           "metadata": {"quantizer_state": {"l.input_quantizer": {
                               "_disabled": True, "shape": torch.Size([2, 3]),
                               "dtype": torch.bfloat16, "_amax": torch.ones(())}}}})]}
    modelopt = {"modelopt_state": state, "model_state_dict": plain}
    module = torch.nn.Linear(3, 2).state_dict()
    few = collections.OrderedDict(a=base, b=base.half(), i=torch.arange(3))
    found = [(8, torch_file(v)) for v in (plain, modelopt, module, few, {"a": base[1]})]
    found += [(8, torch_file(v, legacy=True)) for v in (few, module, {"a": base.t(), "b": base})]
    for path in sorted((ROOT / "tests/fuzz/corpus/torch_file_fuzz").glob("*.pt")):
        found.append((0.1, path.read_bytes()))
    for path in sorted((ROOT / "tests/golden/torch").glob("*.pt")):
        found.append((4, path.read_bytes()))
    for path in sorted((ROOT / "tests/golden/modelopt").glob("*/transformer.pt")):
        found.append((0.02, path.read_bytes()))
    return found


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(i.filename, archive.read(i)) for i in archive.infolist()]


def zipped(content):
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        warnings.simplefilter("ignore")
        for name, value in content:
            archive.writestr(zipfile.ZipInfo(name), value)
    return out.getvalue()


def operations(data):
    """The opcodes of the pickle at the start of `data` as byte strings."""
    positions = [position for _, _, position in pickletools.genops(data)]
    end = positions[-1] + 1
    return [data[a:b] for a, b in zip(positions, positions[1:] + [end])]


def number(rng):
    kind = rng.randrange(4)
    value = rng.choice(INTERESTING) if kind else rng.randrange(-5, 40)
    value = -value if kind == 1 else value
    if kind == 2 and 0 <= value < 256:
        return b"K" + bytes([value])
    if kind == 3 and -2**31 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(9, "little", signed=True)[:rng.choice([8, 9])]
    return b"\x8a" + bytes([len(raw)]) + raw


def operation(rng, ops):
    kind = rng.randrange(8)
    if kind == 0:
        return number(rng)
    if kind == 1:
        return b"c" + rng.choice(TORCH_GLOBALS).encode() + b"\n"
    if kind == 2:
        return b"h" + bytes([rng.randrange(40)])
    if kind == 3:
        text = rng.choice([b"storage", b"0", b"1", b"cpu", b"latin1", b"utf-8", b"cuda:7", b"\xff",
                           b"\xc3\xa9", b"\xed\xa0\x80", b"model_state_dict", b"modelopt_state"])
        return b"X" + struct.pack("<I", len(text)) + text
    if kind < 6:
        return rng.choice(NO_ARGUMENT)
    return rng.choice(ops)


def mutate_pickle(rng, data):
    ops = operations(data)
    rest = data[sum(map(len, ops)):]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at = rng.randrange(1, len(ops))
        kind = rng.randrange(8)
        if kind == 0:
            del ops[at]
        elif kind == 1:
            ops.insert(at, ops[at])
        elif kind == 2:
            other = rng.randrange(1, len(ops))
            ops[at], ops[other] = ops[other], ops[at]
        elif kind == 3:
            numbers = [i for i, op in enumerate(ops) if op[:1] in b"KMJ\x8a\x88\x89"]
            at = rng.choice(numbers or [at])
            ops[at] = rng.choice([number(rng), rng.choice(ops)])
        elif kind == 4:
            named = [i for i, op in enumerate(ops) if op[:1] in b"cX"]
            at = rng.choice(named or [at])
            same = [op for op in ops if op[:1] == ops[at][:1]]
            ops[at] = rng.choice([rng.choice(same), operation(rng, ops)])
        elif kind == 5:
            begin = rng.randrange(1, len(ops))
            ops[at:at] = ops[begin:begin + rng.randrange(1, 8)]
        elif kind == 6:
            ops.insert(at, operation(rng, ops))
        else:
            ops[at] = operation(rng, ops)
        if len(ops) < 3:
            break
    return b"".join(ops) + rest


def mutate_bytes(rng, data, positions=None):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.choice(positions) if positions else rng.randrange(len(data))
        at = min(at, len(data) - 1)
        kind = rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice(INTERESTING) & 255
        elif kind == 2:
            width = rng.choice([2, 4, 8])
            value = rng.choice(INTERESTING) & (2**(8 * width) - 1)
            data[at:at + width] = value.to_bytes(width, "little")
        elif kind == 3:
            data[at] = (data[at] + rng.choice([-1, 1])) & 255
        elif kind == 4:
            del data[at:at + rng.randrange(1, 9)]
        else:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        if not data:
            return b"\0"
    return bytes(data)


def structure(data):
    """Positions in headers, directory and end records: everything but the members' content."""
    inside = bytearray(len(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
            begin = info.header_offset + 30 + name + extra
            end = min(begin + info.file_size, len(data))  # hostile seeds claim gigabytes
            inside[begin:end] = b"\1" * max(end - begin, 0)
    return [i for i, byte in enumerate(inside) if not byte and data[i] != 0x5A]


def mutate_members(rng, data):
    content = members(data)
    at = rng.randrange(len(content))
    name, value = content[at]
    kind = rng.randrange(6)
    if kind == 0:
        del content[at]
    elif kind == 1:
        content.insert(rng.randrange(len(content)), (name, value))
    elif kind == 2:
        content[at] = (name, mutate_bytes(rng, value or b"0"))
    elif kind == 3:
        name = mutate_bytes(rng, name.encode()).decode("latin1").replace("\0", "")
        content[at] = (name or "x", value)
    elif kind == 4:
        other = rng.randrange(len(content))
        content[at], content[other] = (name, content[other][1]), (content[other][0], value)
    else:
        extra = rng.choice(["version", ".data/version", ".format_version", ".storage_alignment",
                            "byteorder", "constants.pkl", "code/x", "DATA.PKL", "data/0", "Data/0"])
        text = rng.choice([b"3\n", b"1", b"10", b"11", b"0", b"-1", b"x", b"", b"little", b"64",
                           b" 3", b"3 3", b"big"])
        content.append((name.split("/")[0] + "/" + extra, text))
    return zipped(content)


def mutate_zip_pickle(rng, data):
    return zipped([(n, mutate_pickle(rng, v) if n.endswith("data.pkl") else v)
                   for n, v in members(data)])


def mutate_legacy_pickle(rng, data):
    offset = 0
    for _ in range(rng.randrange(5)):
        offset += sum(map(len, operations(data[offset:])))
    return data[:offset] + mutate_pickle(rng, data[offset:])


def mutate_structure(rng, data):
    kind = rng.random()
    if data[:2] != b"PK":
        return mutate_legacy_pickle(rng, data)
    if kind < 0.2:
        return mutate_bytes(rng, data, structure(data))
    if kind < 0.4:
        return mutate_members(rng, data)
    return mutate_zip_pickle(rng, data)


def mutate(rng, data):
    if rng.random() < 0.2:
        return mutate_bytes(rng, data)
    try:
        return mutate_structure(rng, data)
    except Exception:  # a hostile seed that zipfile or pickletools does not take apart
        return mutate_bytes(rng, data)


class Probe:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, data):
        self.process.stdin.write(struct.pack("<Q", len(data)) + data)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the probe died")
        return line.decode("utf-8", "replace").rstrip("\n")


def torch_refusal(path):
    try:
        torch.load(path, weights_only=True, map_location="cpu")
        return None
    except Exception as error:  # torch raises all sorts
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", required=True)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--scratch", default="/dev/shm/diff_torch_load.pt")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    weights, files = zip(*seeds())
    probe = Probe(args.probe)
    for index, data in enumerate(files):  # torch never ends with some that we refuse
        verdict = probe(data)
        pathlib.Path(args.scratch).write_bytes(data)
        refusal = None if verdict.startswith("no ") else torch_refusal(args.scratch)
        print(f"seed {index}: {len(data)} bytes, {verdict[:100]}, torch: {refusal}")
    counts = collections.Counter()
    for index in range(args.mutants):
        mutant = mutate(rng, rng.choices(files, weights)[0])
        verdict = probe(mutant).split(" ")[0]
        counts[verdict] += 1
        if verdict == "no":
            continue
        pathlib.Path(args.scratch).write_bytes(mutant)
        refusal = torch_refusal(args.scratch)
        if refusal is None:
            continue
        counts[f"{verdict}, refused by torch"] += 1
        if verdict == "torch":
            print(f"mutant {index}: {refusal[:300]}", flush=True)
            if args.keep:
                args.keep.mkdir(parents=True, exist_ok=True)
                (args.keep / f"mutant{index}.pt").write_bytes(mutant)
    print(f"torch {torch.__version__}, seed {args.seed}, {args.mutants} mutants:", dict(counts))
    sys.exit(counts["torch, refused by torch"] > 0)


if __name__ == "__main__":
    main()
