#!/usr/bin/env python3
"""Writes corpus/video_fuzz with the command: the micro Wan's videos, 48x32 and 5 frames.

usage: tests/fuzz/make_video_corpus.py build/release/bin/dither
"""

import pathlib
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parents[1]
MODEL = TESTS / "golden" / "wan" / "pipeline"
CORPUS = TESTS / "fuzz" / "corpus" / "video_fuzz"

# Parameters in a video hold no path that was not given: a link keeps this machine's out.
with tempfile.TemporaryDirectory() as folder:
    (pathlib.Path(folder) / "wan").symlink_to(MODEL)
    dither = pathlib.Path(sys.argv[1]).resolve()
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, frames in [("a.mp4", 5), ("one.mp4", 1), ("a.webp", 5), ("one.webp", 1)]:
        subprocess.run([dither, "generate", "fox", "--model-path", "wan", "--num-frames", str(frames),
                        "--num-inference-steps", "2", "--quiet", "-o", CORPUS / name],
                       cwd=folder, check=True)
