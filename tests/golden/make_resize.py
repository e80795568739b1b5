#!/usr/bin/env python3
"""Pictures resized by Pillow's Lanczos filter: writes resize.safetensors beside this script.

    pip install pillow==13.0.0 numpy safetensors
    python make_resize.py
"""
import pathlib

import numpy
import PIL
from PIL import Image
from safetensors.numpy import save_file

CASES = [((40, 30), (17, 30)), ((40, 30), (40, 11)), ((23, 19), (50, 61)), ((64, 48), (13, 9)),
         ((31, 7), (30, 8)), ((1, 5), (4, 2))]  # (width, height), from and to


def main():
    rng = numpy.random.default_rng(20261126)
    out = {}
    for i, (size, target) in enumerate(CASES):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
        resized = Image.fromarray(pixels).resize(target, Image.Resampling.LANCZOS)
        out[f"{i}.from"], out[f"{i}.to"] = pixels, numpy.asarray(resized)
    save_file(out, pathlib.Path(__file__).resolve().parent / "resize.safetensors",
              {"made_by": "make_resize.py", "pillow": PIL.__version__})


if __name__ == "__main__":
    main()
