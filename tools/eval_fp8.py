#!/usr/bin/env python3
"""Latent cosine and PSNR of an FP8 transformer against the 16-bit one: 8 prompts x 3 seeds.

Draws with both through `dither compare` and prints the table of docs/quantization.md. Prompts are
not those of the calibration, but for the first.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPTS = ["a red apple", "a dog", "a green dragon", "a snowman", "robot", "sunflower",
           "panda on a pink background", "pizza"]
SEEDS = [0, 1, 2]


def compare(dither, model, transformer, prompt, seed):
    """(cosine of the last step's latents, PSNR in dB)"""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        subprocess.run([dither, "compare", prompt, "--seed", str(seed), "--model-path", model,
                        "--candidate-transformer-path", transformer, "--dtype", "bf16",
                        "--layer-steps", "none", "--quiet", "--output-json", report],
                       check=True, stdout=subprocess.DEVNULL)
        document = json.loads(report.read_text())
    return (document["trajectory_metrics"]["selected_step_metrics"]["cosine_similarity"],
            document["output_metrics"]["frame0_metrics"]["psnr_db"])


def print_table(rows):
    """`rows`: {prompt: [(cosine, psnr) by seed]}. Infinite PSNR would spoil a mean: left out."""
    print("| prompt | cosine, lowest | cosine, mean | PSNR, mean (dB) |\n| --- | --- | --- | --- |")
    everything = [pair for pairs in rows.values() for pair in pairs]
    for name, pairs in [*rows.items(), ("**all**", everything)]:
        cosines = [cosine for cosine, _ in pairs]
        psnr = statistics.mean(p for _, p in pairs if math.isfinite(p))
        print(f"| {name} | {min(cosines):.5f} | {statistics.mean(cosines):.5f} | {psnr:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transformer", help="the FP8 transformer's folder")
    parser.add_argument("--model", default=ROOT / "models/emoji-flux")
    parser.add_argument("--dither", default=ROOT / "build/release/bin/dither")
    options = parser.parse_args()
    print_table({prompt: [compare(options.dither, options.model, options.transformer, prompt, seed)
                          for seed in SEEDS] for prompt in PROMPTS})


if __name__ == "__main__":
    main()
