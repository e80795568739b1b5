"""dither compare and dither quantize."""

import json

from command import EXECUTED_BF16, FAST, MODEL, CommandTest, main


class Compare(CommandTest):
    def compare(self, *arguments):
        """The lines printed, as a dictionary."""
        lines = self.succeed("compare", "owl", "--quiet", *FAST, *arguments).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def test_bf16_against_f32(self):
        printed = self.compare("--reference-dtype", "f32", "--candidate-dtype", "bf16",
                               "--output-json", "a.json", "--html", "a.html",
                               "--fail-below", "cosine=0.999", "--fail-below", "psnr=30")
        self.assertEqual(printed["trajectory_selected_step"], "1")
        document = json.loads((self.folder / "a.json").read_text())
        self.assertEqual(document["seed"], 42)
        self.assertEqual(document["trajectory_metrics"]["num_steps"], 2)
        self.assertEqual(document["sampling_kwargs"]["num_frames"], 1)
        page = (self.folder / "a.html").read_text()
        self.assertNotIn("http", page)
        self.assertIn("transformer_blocks.0.attn.to_q", page)

    def test_text_encoder_in_fp8(self):
        printed = self.compare("--candidate-text-encoder-precision", "fp8", "--output-json",
                               "a.json", "--html", "a.html", "--layer-steps", "none")
        self.assertEqual(printed["pooled_prompt_embeds_cosine"], "1.000000")
        self.assertGreater(float(printed["prompt_embeds_cosine"]), 0.99)
        self.assertGreater(float(printed["prompt_embeds_relative_l2"]), 0)
        document = json.loads((self.folder / "a.json").read_text())
        embeddings = document["embedding_metrics"]
        self.assertEqual(f'{embeddings["prompt_embeds"]["relative_l2"]:.6f}',
                         printed["prompt_embeds_relative_l2"])
        sides = document["server_kwargs"]
        self.assertEqual(sides["candidate"]["weight_precision"], "text-encoder-precision=fp8")
        self.assertNotIn("weight_precision", sides["reference"])
        self.assertRegex((self.folder / "a.html").read_text(),
                         f"14 {EXECUTED_BF16} of FP8 weights")

    def test_the_same_twice(self):
        printed = self.compare("--output-json", "a.json")
        self.assertEqual(printed["trajectory_cosine"], "1.000000")
        self.assertEqual(printed["frame0_psnr_db"], "inf")
        self.assertIn('"psnr_db": Infinity', (self.folder / "a.json").read_text())

    def test_missed_limit(self):
        done = self.run_dither("compare", "owl", *FAST, "--candidate-dtype", "f32", "--quiet",
                               "--fail-below", "cosine=0.99999999")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"^dither: error: cosine is 0\.\d+, below")

    def test_saved_trajectories(self):
        for steps in ("1", "2"):
            self.succeed("generate", "owl", "--num-inference-steps", steps, "-o", "owl.png",
                         "--save-trajectory", f"{steps}.safetensors")
        printed = self.succeed("compare", "--trajectories", "2.safetensors", "2.safetensors")
        self.assertIn("trajectory_cosine=1.000000", printed)
        self.fail_with(2, "compare", "--trajectories", "1.safetensors", "2.safetensors",
                       says=["1.safetensors", "2.safetensors", "shape"])

    def test_bad_words(self):
        self.fail_with(2, "compare", "--fail-below", "speed=1", says=["--fail-below", "speed=1"])
        self.fail_with(2, "compare", "--candidate-component-path", "transformer",
                       says=["NAME=DIR"])
        self.fail_with(2, "compare", "--layer-steps", "first", says=["--layer-steps", "first"])

    def test_quantize_then_compare(self):
        self.succeed("quantize", "--output-dir", "fp8", *["--n-steps", "8"], "--json", "amax.json",
                     "--quiet")
        report = json.loads((self.folder / "amax.json").read_text())
        self.assertEqual(len(report["layers"]), 52)
        config = json.loads((self.folder / "fp8/transformer/config.json").read_text())
        self.assertEqual(config["quantization_config"]["quant_algo"], "FP8")
        self.succeed("generate", "a dog", "--transformer-path", "fp8/transformer",
                     "--strict-precision", "-o", "dog.png")
        lines = self.succeed("compare", "a dog", "--model-path", MODEL, "--quiet",
                             "--candidate-component-path", "transformer=fp8/transformer",
                             "--fail-below", "cosine=0.99").splitlines()
        weights = dict(line.split("=", 1) for line in lines)
        self.assertLessEqual(float(weights["candidate_transformer_weights_mb"]),
                             0.56 * float(weights["reference_transformer_weights_mb"]))

    def test_quantize_refuses(self):
        self.fail_with(2, "quantize", "--output-dir", "a", "--amax", "percentile=0",
                       says=["--amax"])
        self.fail_with(2, "quantize", "--output-dir", "a", "--ignore", "nothing*",
                       says=["nothing*"])
        self.fail_with(2, "quantize", "--output-dir", MODEL, says=["overlaps"])
        self.fail_with(1, "quantize", "--output-dir", "a", "--calib-prompts", "none.txt",
                       says=["--calib-prompts", "none.txt"])
        self.assert_no_file()


if __name__ == "__main__":
    main()
