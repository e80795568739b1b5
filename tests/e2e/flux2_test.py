"""FLUX.2 through the command, on the tiny pipelines of tests/golden/flux2."""

import json
import shutil

from command import MODEL, ROOT, CommandTest, main, png_chunks, png_size, write_png

MICRO = ROOT / "tests" / "golden" / "flux2"
CONFIGS = ROOT / "models" / "configs"
DEV, KLEIN = MICRO / "dev", MICRO / "klein"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


class Flux2(CommandTest):
    def read(self, name):
        return (self.folder / name).read_bytes()

    def pixels(self, name):
        """What of the PNG is not text."""
        return [content for kind, content in png_chunks(self.read(name)) if kind == "IDAT"]

    def copy(self, folder, **index):
        """A copy with keys of model_index.json changed; None removes one."""
        copy = self.folder / "copy"
        shutil.copytree(folder, copy)
        file = copy / "model_index.json"
        values = json.loads(file.read_text())
        values.update(index)
        file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
        return copy

    def warnings(self, *arguments):
        done = self.run_dither("generate", *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr.decode()

    def test_draws_and_repeats(self):
        for folder in [DEV, KLEIN]:
            with self.subTest(folder.name):
                self.succeed("generate", "a red fox", "--model-path", folder, "-o", "a.png")
                self.assertEqual(png_size(self.read("a.png")), (64, 48))
                self.succeed("generate", "--from", "a.png", "-o", "b.png")
                self.assertEqual(self.read("a.png"), self.read("b.png"))

    def test_guidance_of_dev_is_embedded(self):
        for scale in ["1", "4"]:
            self.succeed("generate", "a red fox", "--model-path", DEV, "--guidance-scale", scale,
                         "-o", f"{scale}.png")
        self.assertNotEqual(self.pixels("1.png"), self.pixels("4.png"))

    def test_klein_base_is_guided_and_repeats(self):
        base = self.copy(KLEIN, is_distilled=None)
        common = ["generate", "a red fox", "--model-path", base, "--guidance-scale", "3"]
        self.succeed(*common, "-o", "empty.png")
        self.succeed(*common, "--negative-prompt", "snow", "-o", "snow.png")
        self.assertNotEqual(self.read("empty.png"), self.read("snow.png"))
        self.succeed("generate", "--from", "snow.png", "-o", "again.png")
        self.assertEqual(self.read("snow.png"), self.read("again.png"))
        self.assertIn("is distilled: guidance-scale 3 has no effect",
                      self.warnings("a red fox", "--model-path", KLEIN, "--guidance-scale", "3",
                                    "-o", "x.png"))

    def test_reference_pictures(self):
        common = ["generate", "a red fox", "--model-path", DEV]
        self.succeed(*common, "--width", "80", "--height", "64", "-o", "one.png")
        self.succeed(*common, "--width", "64", "--height", "96", "--seed", "1", "-o", "two.png")
        self.succeed(*common, "--image-path", "one.png", "--image-path", "two.png", "-o", "a.png")
        self.assertEqual(png_size(self.read("a.png")), (80, 64))  # the first one's
        self.succeed("generate", "--from", "a.png", "-o", "again.png")
        self.assertEqual(self.read("a.png"), self.read("again.png"))
        self.succeed(*common, "--image-path", "two.png", "--image-path", "one.png", "--width",
                     "80", "--height", "64", "-o", "b.png")
        self.assertNotEqual(self.read("a.png"), self.read("b.png"))
        (self.folder / "two.png").unlink()
        self.fail_with(1, "generate", "--from", "a.png", "-o", "c.png", says=["two.png"])
        self.succeed("generate", "fox", "--model-path", KLEIN, "--image-path", "one.png", "-o",
                     "klein.png")

    def test_a_large_reference_keeps_what_the_limit_says(self):
        write_png(self.folder / "large.png", 1104, 1088)
        common = ["generate", "fox", "--model-path", KLEIN, "--image-path", "large.png", "--width",
                  "64", "--height", "48", "--num-inference-steps", "1"]
        self.succeed(*common, "-o", "diffusers.png")
        self.succeed(*common, "--reference-limit", "bfl", "-o", "bfl.png")
        self.assertNotEqual(self.pixels("diffusers.png"), self.pixels("bfl.png"))
        self.succeed("generate", "--from", "bfl.png", "-o", "again.png")
        self.assertEqual(self.read("bfl.png"), self.read("again.png"))
        # Of two the rules are the same.
        both = [*common, "--image-path", "large.png"]
        self.succeed(*both, "-o", "two.png")
        self.succeed(*both, "--reference-limit", "bfl", "-o", "two-bfl.png")
        self.assertEqual(self.pixels("two.png"), self.pixels("two-bfl.png"))

    def test_reference_pictures_that_do_not_do(self):
        self.succeed("generate", "fox", "--model-path", DEV, "-o", "small.png")
        self.fail_with(2, "generate", "fox", "--model-path", DEV, "--image-path", "small.png",
                       says=["image-path 'small.png'", "64x48", "at least 64"])
        self.fail_with(2, "generate", "fox", "--image-path", "small.png",
                       says=["image-path", "emoji-flux takes no reference pictures"])
        (self.folder / "text.png").write_text("hello")
        self.fail_with(1, "generate", "fox", "--model-path", DEV, "--image-path", "text.png",
                       says=["text.png"])

    def test_a_long_prompt_is_cut_where_the_warning_says(self):
        said = self.warnings("red apples and " * 200 + "the end", "--model-path", DEV, "-o",
                             "x.png")
        self.assertIn("prompt: Mistral reads 256 of its", said)
        self.assertIn("cut off: '", said)

    def test_inspect(self):
        text = self.succeed("inspect", DEV)
        for word in ["Flux2Pipeline", "Flux2Transformer2DModel", "AutoencoderKLFlux2",
                     "Mistral3ForConditionalGeneration", "64x48", "3 steps"]:
            self.assertIn(word, text)

    def test_quantize_then_compare(self):
        self.succeed("quantize", "--model-path", DEV, "--profile", "flux2", "--output-dir", "fp8",
                     "--n-steps", "2", "--quiet")
        fp8 = self.folder / "fp8" / "transformer"
        # 2 double blocks of 12 linear layers, 2 single blocks of 2.
        self.assertRegex(self.succeed("inspect", fp8), r"28 (layers )?FP8|FP8.* 28")
        self.succeed("generate", "a red fox", "--model-path", DEV, "--transformer-path", fp8,
                     "--strict-precision", "-o", "fp8.png")
        self.succeed("compare", "a red fox", "--model-path", DEV, "--quiet",
                     "--candidate-component-path", f"transformer={fp8}",
                     "--fail-below", "cosine=0.98")

    def test_bench_makes_weights_up(self):
        configs = self.folder / "configs"
        for path in DEV.rglob("*.json"):
            name = path.relative_to(DEV)
            if name.parts[0] != "tokenizer":
                (configs / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, configs / name)
        for quantization in ["none", "fp8-profile"]:
            with self.subTest(quantization):
                table = self.succeed("bench", "--model-path", configs, "--load-format", "dummy",
                                     "--dummy-quantization", quantization, "--runs", "1",
                                     "--warmup", "0")
                self.assertIn("dummy weights", table)

    def test_a_transformer_of_the_other_family_is_named(self):
        self.fail_with(1, "generate", "fox", "--model-path", DEV, "--transformer-weights-path",
                       MODEL / WEIGHTS, says=["a transformer of FLUX.1", "time_text_embed",
                                              "x_embedder.weight is [256, 64], expected [32, 16]"])
        self.fail_with(1, "generate", "fox", "--model-path", DEV, "--transformer-path",
                       MODEL / "transformer",
                       says=["transformer/config.json", "_class_name", "FluxTransformer2DModel"])
        self.fail_with(1, "generate", "fox", "--transformer-weights-path", DEV / WEIGHTS,
                       says=["a transformer of FLUX.2", "time_guidance_embed",
                             "x_embedder.weight is [32, 16], expected [256, 64]"])

    def test_parts_that_do_not_fit(self):
        self.fail_with(1, "generate", "fox", "--model-path", DEV, "--transformer-weights-path",
                       KLEIN / WEIGHTS,
                       says=["missing time_guidance_embed.guidance_embedder.linear_1.weight",
                             "surplus single_transformer_blocks.2"])
        self.fail_with(1, "generate", "fox", "--model-path", DEV, "--text-encoder-path",
                       KLEIN / "text_encoder", says=["model_type", "qwen3"])
        self.fail_with(1, "generate", "fox", "--model-path", CONFIGS / "flux2-dev",
                       says=["text_encoder", "model.safetensors"])

    def test_missing_files(self):
        copy = self.copy(DEV)
        for part, name in [("transformer", "config.json"), ("tokenizer", "tokenizer.json"),
                           ("text_encoder", "model.safetensors"),
                           ("vae", "diffusion_pytorch_model.safetensors")]:
            with self.subTest(part):
                file = copy / part / name
                kept = file.rename(self.folder / "kept")
                self.fail_with(1, "generate", "fox", "--model-path", copy, says=[part, name])
                kept.rename(file)

    def test_another_text_encoder_class(self):
        copy = self.copy(DEV, text_encoder=["transformers", "T5EncoderModel"])
        self.fail_with(1, "generate", "fox", "--model-path", copy,
                       says=["text_encoder", "T5EncoderModel", "Mistral3ForConditionalGeneration"])


if __name__ == "__main__":
    main()
