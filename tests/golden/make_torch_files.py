#!/usr/bin/env python3
"""Small files written by torch.save, with what they hold, for the tests of the .pt reader.

Writes <out>/*.pt and <out>/expected.safetensors, whose keys are <file>/<tensor>.
"""
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file

out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
base = torch.randn(6, 8)

cases = {
    "dtypes": {
        "f32": base.clone(),
        "f16": base.half(),
        "bf16": base.bfloat16(),
        "f64": base.double(),
        "i64": torch.arange(5),
        "u8": torch.arange(7, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "e4m3": base.to(torch.float8_e4m3fn),
        "e5m2": base.to(torch.float8_e5m2),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "empty": torch.empty(0, 3),
    },
    # Views save their whole storage once and share it.
    "views": {
        "whole": base,
        "transposed": base.t(),
        "window": base[1:4, 2:7],
        "column": base[:, 3],
        "expanded": base[0, :1].expand(4, 8),
        "parameter": torch.nn.Parameter(base[2]),
    },
}
expected = {}
for name, tensors in cases.items():
    torch.save(OrderedDict(tensors), out / f"{name}.pt")
    for key, value in tensors.items():
        expected[f"{name}/{key}"] = value.detach().clone(memory_format=torch.contiguous_format).contiguous()
legacy = {k: v for k, v in cases["dtypes"].items() if k not in ("e4m3", "e5m2")}
torch.save(OrderedDict(legacy), out / "legacy.pt", _use_new_zipfile_serialization=False)
for key, value in legacy.items():
    expected[f"legacy/{key}"] = value.clone()
save_file(expected, out / "expected.safetensors", metadata={"torch": torch.__version__})
print(torch.__version__, len(expected), "tensors")
