#!/usr/bin/env python3
"""Checksums of torch.randn at sizes too many or too large to store.

make_randn_checksums.py cpu > randn_checksums_torch<version>_cpu.txt
make_randn_checksums.py cuda > randn_checksums_torch<version>_<gpu>.txt

Lines: dtype seed n checksum. Checksum: FNV-1a over the values' bit patterns (32-bit words of
float32, 16-bit words of bfloat16), 64-bit offset basis and prime.
"""
import sys

import torch


def checksum(values):
    words = values.view(torch.uint32 if values.dtype == torch.float32 else torch.uint16)
    result = 0xCBF29CE484222325
    for word in words.tolist():
        result = ((result ^ word) * 0x100000001B3) & (2**64 - 1)
    return result


device = sys.argv[1]
if device == "cpu":
    chip = torch.backends.cpu.get_cpu_capability()
    sizes, seeds = [*range(1, 66), 4096, 262144, 1000003], (0, 42, 2**32 + 7)
else:
    chip = torch.cuda.get_device_name(0)
    sizes, seeds = [1000, 262144, 524288, 1000003], (0, 42)
print(f"# torch {torch.__version__}, {chip}, make_randn_checksums.py {device}")
for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
    for seed in seeds:
        for n in sizes:
            generator = torch.Generator(device).manual_seed(seed)
            values = torch.randn(n, generator=generator, dtype=dtype, device=device)
            print(name, seed, n, f"{checksum(values.cpu()):016x}")
