#!/usr/bin/env python3
"""dither convert: what it prints, writes and refuses."""

import json
import unittest

from command import ROOT, CommandTest

MICRO = ROOT / "tests/golden/modelopt/flux1-micro"
INPUTS = ["--modelopt-hf-dir", MICRO / "hf", "--modelopt-backbone-ckpt", MICRO]
BASE = ["--base-transformer-dir", MICRO / "base"]


class ConvertTest(CommandTest):
    def test_converts_and_reports(self):
        out = self.succeed("convert", *INPUTS, *BASE, "--output-dir", "out", "--report", "r.json")
        self.assertEqual(out, "out\n")
        self.assertEqual(self.files(), ["out/config.json",
                                        "out/diffusion_pytorch_model.safetensors",
                                        "out/diffusion_pytorch_model.safetensors.index.json",
                                        "r.json"])
        report = json.loads((self.folder / "r.json").read_text())
        self.assertEqual(report["profile"], "flux1")
        self.assertEqual(report["quantized_weights"], 18)
        self.assertEqual(report["bf16_fallback_weights"], 8)

    def test_quiet_is_quiet_and_overwrite_replaces(self):
        for _ in range(2):
            done = self.run_dither("convert", *INPUTS, "--model-type", "none", "--output-dir", "o",
                                   "--overwrite", "--quiet")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"o\n", b""))

    def test_bad_command_lines(self):
        for arguments, says in [
                (["--model-type", "flux"], ["'flux'", "did you mean 'flux1'"]),
                (["--output-dir", MICRO / "hf/new", "--overwrite"], ["overlap"]),
                ([], ["8 layers", "--base-transformer-dir"]),
                ([*BASE, "--keep-bf16-pattern", "("], ["'('", "regular expression"]),
                ([*BASE, "--report", "none/r.json"], ["none"])]:
            with self.subTest(arguments=arguments):
                output = [] if "--output-dir" in arguments else ["--output-dir", "out"]
                done = self.run_dither("convert", *INPUTS, *output, *arguments)
                self.assertIn(done.returncode, (1, 2))
                for text in says:
                    self.assertIn(text, done.stderr.decode())
                self.assert_no_file()

    def test_foreign_backbone_names_the_layers(self):
        self.fail_with(1, "convert", "--modelopt-hf-dir", MICRO / "hf",
                       "--modelopt-backbone-ckpt", MICRO.parent / "flux2-micro",
                       "--model-type", "none", "--output-dir", "out",
                       says=["does not belong", "26 layers differ",
                             "'single_transformer_blocks.0.attn.to_k'"])
        self.assert_no_file()


if __name__ == "__main__":
    unittest.main()
