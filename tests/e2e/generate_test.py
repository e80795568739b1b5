"""dither generate, where everything goes right."""

import json
import math
import os
import pty
import struct

from command import (EXECUTED_BF16, FAST, MODEL, CommandTest, main, png_chunks, png_size,
                     read_safetensors)


class Pictures(CommandTest):
    def draw(self, *arguments, **options):
        """The paths printed."""
        return self.succeed("generate", *arguments, *FAST, **options).splitlines()

    def read(self, name):
        return (self.folder / name).read_bytes()

    def test_a_prompt_is_enough(self):
        paths = self.succeed("generate", "A red apple!").splitlines()
        self.assertEqual(paths, ["out/a_red_apple-seed0.png"])
        self.assertEqual(png_size(self.read(paths[0])), (128, 128))

    def test_automatic_names_replace_nothing(self):
        first = self.draw("apple")
        second = self.draw("apple")
        self.assertEqual(second, ["out/apple-seed0-2.png"])
        self.assertEqual(self.read(first[0]), self.read(second[0]))

    def test_a_name_that_was_asked_for_is_replaced(self):
        (self.folder / "apple.png").write_bytes(b"old")
        self.assertEqual(self.draw("apple", "-o", "apple.png"), ["apple.png"])
        self.assertEqual(png_size(self.read("apple.png")), (128, 128))

    def test_folder_and_file_name(self):
        paths = self.draw("apple", "--output-path", "a/b", "--output-file-name", "c")
        self.assertEqual(paths, ["a/b/c.png"])

    def test_seeds_count_up(self):
        paths = self.draw("apple", "--seed", "5", "--num-outputs-per-prompt", "2")
        self.assertEqual(paths, ["out/apple-seed5.png", "out/apple-seed6.png"])
        alone = self.draw("apple", "--seed", "6", "-o", "alone.png")
        self.assertEqual(self.read(paths[1]), self.read(alone[0]))

    def test_underscores_and_aliases(self):
        self.succeed("generate", "apple", "--num_inference_steps=2", "-o", "a.png", "--dtype",
                     "bfloat16", f"--component-paths.text_encoder={MODEL / 'text_encoder'}")
        self.succeed("generate", "apple", "--num-inference-steps=2", "-o", "b.png", "--dtype",
                     "bf16", "--text-encoder-path", MODEL / "text_encoder")
        self.assertEqual(self.read("a.png"), self.read("b.png"))

    def test_prompts_from_file_and_stdin(self):
        (self.folder / "prompts.txt").write_bytes(b"apple\r\n\n  \nred car\n")
        names = ["out/apple-seed0.png", "out/red_car-seed0.png"]
        self.assertEqual(self.draw("--prompt-file", "prompts.txt"), names)
        again = self.draw("--prompt-file", "-", "--output-path", "x", stdin=b"apple\nred car")
        self.assertEqual([self.read(n) for n in names], [self.read(n) for n in again])

    def test_hard_prompts(self):
        prompts = ["", "\U0001F34E", "\u732B", "[a, b]", '{"x": 1}', "tab\there", "word " * 5000]
        for index, prompt in enumerate(prompts):
            with self.subTest(prompt=prompt[:20]):
                self.assertEqual(len(self.draw(f"--prompt={prompt}", "-o", f"{index}.png")), 1)

    def test_a_megabyte_of_prompt_is_drawn_or_refused(self):
        (self.folder / "prompts.txt").write_text("apple " * 170_000)
        done = self.run_dither("generate", "--prompt-file", "prompts.txt", "-o", "a.png", *FAST)
        self.assertIn(done.returncode, (0, 2))
        if done.returncode == 2:
            self.assertEqual(done.stderr.count(b"\n"), 1)
            self.assertFalse((self.folder / "a.png").exists())

    def test_grid(self):
        paths = self.draw("apple", "--num-outputs-per-prompt", "3", "--grid", "2")
        self.assertEqual(paths[-1], "out/apple-grid.png")
        width, height = png_size(self.read(paths[-1]))
        self.assertGreaterEqual(width, 256)
        self.assertGreaterEqual(height, 256)
        self.assertLess(max(width, height), 300)

    def test_dtypes_agree_roughly_and_differ(self):
        a = self.read(*self.draw("apple", "--dtype", "f32", "-o", "a.png"))
        b = self.read(*self.draw("apple", "--dtype", "bf16", "-o", "b.png"))
        self.assertNotEqual(a, b)

    def test_negative_prompt_changes_the_picture(self):
        a = self.read(*self.draw("apple", "-o", "a.png"))
        b = self.read(*self.draw("apple", "-o", "b.png", "--negative-prompt", "red",
                                 "--true-cfg-scale", "3"))
        self.assertNotEqual(a, b)


class Repeating(CommandTest):
    OPTIONS = ["a red apple", "--seed", "9", "--guidance-scale", "2.5", "--noise",
               "torch-cpu-legacy", "--max-sequence-length", "32", *FAST]

    def read(self, name):
        return (self.folder / name).read_bytes()

    def test_byte_for_byte(self):
        for name, extra in {
            "plain": [],
            "f32": ["--dtype", "f32"],
            "model": ["--model-path", MODEL, "--vae-path", MODEL / "vae"],
            "cfg": ["--negative-prompt", "green", "--true-cfg-scale", "2"],
        }.items():
            with self.subTest(name):
                self.succeed("generate", *self.OPTIONS, *extra, "-o", f"{name}.png")
                self.succeed("generate", "--from", f"{name}.png", "-o", f"{name}-again.png")
                self.assertEqual(self.read(f"{name}.png"), self.read(f"{name}-again.png"))

    def test_each_of_several(self):
        self.succeed("generate", "apple", "--num-outputs-per-prompt", "2", "-o", "a.png", *FAST)
        self.succeed("generate", "--from", "a-1.png", "-o", "b.png")
        self.assertEqual(self.read("a-1.png"), self.read("b.png"))

    def test_other_options_override(self):
        self.succeed("generate", *self.OPTIONS, "-o", "a.png")
        self.succeed("generate", "--from", "a.png", "--seed", "10", "-o", "b.png")
        self.succeed("generate", *self.OPTIONS, "--seed", "10", "-o", "c.png")
        self.assertNotEqual(self.read("a.png"), self.read("b.png"))
        self.assertEqual(self.read("b.png"), self.read("c.png"))

    def test_the_parameters_are_text_chunks(self):
        self.succeed("generate", *self.OPTIONS, "-o", "a.png")
        texts = [content for kind, content in png_chunks(self.read("a.png")) if kind == "iTXt"]
        self.assertTrue(any(t.startswith(b"dither\0") and b'"a red apple"' in t for t in texts))
        self.assertTrue(any(t.startswith(b"parameters\0") for t in texts))

    def test_threads_do_not_change_the_picture(self):
        for dtype in ["bf16", "f32"]:
            for threads in ["1", "2", "3"]:
                self.succeed("generate", *self.OPTIONS, "--threads", threads, "--dtype", dtype, "-o",
                             f"{threads}.png")
            self.assertEqual(self.read("1.png"), self.read("2.png"))
            self.assertEqual(self.read("1.png"), self.read("3.png"))


class ConfigFiles(CommandTest):
    def draw(self, *arguments):
        self.succeed("generate", *arguments, "-o", "x.png", "--quiet")
        return (self.folder / "x.png").read_bytes()

    def test_json_and_yaml_are_the_command_line(self):
        (self.folder / "c.json").write_text(json.dumps({
            "prompt": "a \U0001F34E", "num_inference_steps": 2, "guidance-scale": 2.5, "seed": 3,
            "dtype": "f32", "negative_prompt": None, "component_paths": {"vae": str(MODEL / "vae")},
        }))
        (self.folder / "c.yaml").write_text(
            "prompt: a \U0001F34E\nnum-inference-steps: 2\nguidance_scale: 2.5\nseed: 3\n"
            f"dtype: f32\nnegative_prompt: ~\ncomponent_paths:\n  vae: {MODEL / 'vae'}\n")
        typed = self.draw("a \U0001F34E", *FAST, "--guidance-scale", "2.5", "--seed", "3", "--dtype",
                          "f32", "--vae-path", MODEL / "vae")
        self.assertEqual(typed, self.draw("--config", "c.json"))
        self.assertEqual(typed, self.draw("--config", "c.yaml"))

    def test_the_command_line_wins(self):
        (self.folder / "c.yml").write_text("seed: 3\nnum-inference-steps: 2\n")
        self.assertEqual(self.draw("apple", "--config", "c.yml", "--seed", "4"),
                         self.draw("apple", "--seed", "4", *FAST))

    def test_flags(self):
        (self.folder / "c.json").write_text('{"quiet": true}')
        done = self.run_dither("generate", "apple", "--config", "c.json", "-o", "x.png", *FAST)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))

    def test_bad_files(self):
        for name, text, says in [
            ("a.json", '{"heigth": 128}', ["a.json", "heigth", "--height"]),
            ("a.json", '{"config": "b.json"}', ["a.json", "config"]),
            ("a.json", '{"seed": "x"}', ["a.json", "--seed", "whole number"]),
            ("a.yaml", "quiet: maybe", ["a.yaml", "--quiet", "true or false"]),
            ("a.json", '{"seed": [1]}', ["a.json", "seed", "list"]),
            ("a.yaml", "dtype: bf61", ["a.yaml", "--dtype", "bf61", "bf16"]),
            ("a.yaml", "heigth: 128", ["a.yaml", "heigth", "--height"]),
            ("a.toml", "seed = 1", ["a.toml", ".json", ".yaml"]),
        ]:
            with self.subTest(text):
                (self.folder / name).write_text(text)
                self.fail_with(2, "generate", "apple", "--config", name, says=says)
        for name, text in [("b.json", '{"seed": 1'), ("b.yaml", "a: [1"), ("b.yaml", "- 1"),
                           ("b.yaml", "a: &a {b: *a}"), ("b.json", "[" * 100_000)]:
            with self.subTest(text[:20]):
                (self.folder / name).write_text(text)
                self.assertIn(self.run_dither("generate", "x", "--config", name).returncode, (1, 2))
        self.fail_with(1, "generate", "apple", "--config", "none.json", says=["none.json"])


class Reports(CommandTest):
    def test_perf_dump_has_exactly_these_keys(self):
        self.succeed("generate", "apple", "--perf-dump-path", "p.json", *FAST)
        text = (self.folder / "p.json").read_text()
        dump = json.loads(text)
        self.assertEqual(list(dump), ["timestamp", "request_id", "commit_hash", "tag",
                                      "total_duration_ms", "steps", "denoise_steps_ms",
                                      "memory_checkpoints", "meta", "precision"])
        self.assertTrue(dump["timestamp"].endswith("+00:00"))
        self.assertEqual(dump["tag"], "cli_generate")
        self.assertEqual([s["name"] for s in dump["steps"]],
                         ["InputValidationStage", "TextEncodingStage", "TimestepPreparationStage",
                          "LatentPreparationStage", "DenoisingStage", "DecodingStage"])
        for stage in dump["steps"]:
            self.assertEqual(list(stage), ["name", "duration_ms"])
        self.assertEqual([list(s) for s in dump["denoise_steps_ms"]],
                         [["step", "duration_ms"]] * 2)
        self.assertEqual(list(dump["memory_checkpoints"]), ["before_forward", "after_forward"])
        for point in dump["memory_checkpoints"].values():
            self.assertEqual(sorted(point), ["allocated_mb", "peak_allocated_mb",
                                             "peak_reserved_mb", "reserved_mb"])
        self.assertEqual(list(dump["meta"]), ["prompt", "model"])
        self.assertEqual(dump["meta"]["prompt"], ["apple"])
        self.assertTrue(text.startswith('{\n  "timestamp"'))

    def test_weights_made_fp8_on_load_are_said_and_repeated(self):
        done = self.run_dither("generate", "apple", "--text-encoder-precision", "fp8", "-o",
                               "a.png", "--perf-dump-path", "p.json", *FAST)
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stderr.decode(),
                         rf"text_encoder_2: 14 {EXECUTED_BF16} of FP8 weights, 0 silent, "
                         r"14 quantized on load \(relative error of the weights: mean 0\.0\d+, "
                         r"largest 0\.0\d+, encoder\.block")
        self.assertNotIn("transformer:", done.stderr.decode())
        precision = json.loads((self.folder / "p.json").read_text())["precision"]
        layers = {part["component"]: part["layers"] for part in precision}
        for layer in layers["text_encoder_2"]:
            self.assertEqual((layer["stored"], layer["resident"]), ("BF16", "F8_E4M3"))
            self.assertIn("e4m3 weights", layer["kernel"])
            self.assertTrue(0.01 < layer["weight_error"] < 1 / 16, layer)
        for layer in layers["text_encoder"] + layers["transformer"]:
            self.assertIsNone(layer["weight_error"])
        self.succeed("generate", "--from", "a.png", "-o", "b.png", "--quiet")
        self.assertEqual((self.folder / "a.png").read_bytes(),
                         (self.folder / "b.png").read_bytes())
        self.succeed("generate", "--from", "a.png", "-o", "c.png", "--quiet",
                     "--text-encoder-precision", "bf16")
        self.assertNotEqual((self.folder / "a.png").read_bytes(),
                            (self.folder / "c.png").read_bytes())

    def test_the_vaes_precision_is_kept_and_repeated(self):
        for name, options in [("a", []), ("b", ["--vae-precision", "auto"]),
                              ("c", ["--vae-precision", "f32"])]:
            self.succeed("generate", "apple", "--dtype", "bf16", *options, "-o", f"{name}.png",
                         "--save-trajectory", f"{name}.safetensors", *FAST)
        a, b, c = ((self.folder / f"{name}.png").read_bytes() for name in "abc")
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        self.assertEqual(*(read_safetensors(self.folder / f"{name}.safetensors")[1]
                           for name in "ac"))
        self.assertIn(b'"vae_precision":"f32"', c)
        self.succeed("generate", "--from", "c.png", "-o", "d.png", "--quiet")
        self.assertEqual((self.folder / "d.png").read_bytes(), c)
        self.succeed("generate", "--from", "c.png", "-o", "e.png", "--quiet",
                     "--vae-precision", "auto")
        self.assertEqual((self.folder / "e.png").read_bytes(), a)

    def test_trajectory(self):
        self.succeed("generate", "apple", "--save-trajectory", "t.safetensors", *FAST)
        header, data = read_safetensors(self.folder / "t.safetensors")
        self.assertEqual(header["__metadata__"]["prompt"], "apple")
        self.assertEqual(header["latents"]["shape"], [1, 2, 64, 64])
        self.assertEqual(header["initial_latents"]["shape"], [1, 64, 64])
        self.assertIn("prompt_embeds", header)
        values = {}
        for name in ("timesteps", "sigmas"):
            self.assertEqual(header[name]["dtype"], "F32")
            begin, end = header[name]["data_offsets"]
            values[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        self.assertEqual((len(values["timesteps"]), len(values["sigmas"])), (2, 3))
        self.assertEqual(values["sigmas"][-1], 0)
        for timestep, sigma in zip(values["timesteps"], values["sigmas"]):
            self.assertTrue(math.isclose(timestep, 1000 * sigma, rel_tol=1e-6))

    def test_one_file_per_picture(self):
        self.succeed("generate", "apple", "--num-outputs-per-prompt", "2", "-o", "a.png",
                     "--save-trajectory", "t.safetensors", *FAST)
        self.assertEqual(self.files(), ["a-0.png", "a-1.png", "t-0.safetensors", "t-1.safetensors"])


class Talking(CommandTest):
    def test_quiet_is_silent(self):
        done = self.run_dither("generate", "apple", "--quiet", "--width", "64", *FAST)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.assertEqual(self.files(), ["out/apple-seed0.png"])

    def test_plain_lines_without_a_terminal(self):
        done = self.run_dither("generate", "apple", *FAST)
        self.assertIn(b"step 2/2", done.stderr)
        self.assertNotIn(b"\r", done.stderr)
        self.assertNotIn(b"\x1b", done.stderr)

    def test_a_bar_on_a_terminal(self):
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        done = self.run_terminal(theirs)
        os.close(theirs)
        shown = os.read(ours, 1 << 16)
        self.assertEqual(done, 0)
        self.assertIn(b"[##########..........]  1/2", shown)
        self.assertIn(b"left", shown)
        self.assertTrue(shown.endswith(b"\r\x1b[K"), shown[-40:])  # the bar is gone in the end

    def run_terminal(self, terminal):
        import subprocess
        from command import DITHER
        return subprocess.run([DITHER, "generate", "apple", *FAST], cwd=self.folder, stderr=terminal,
                              stdout=subprocess.DEVNULL, timeout=300).returncode

    def test_a_size_the_model_cannot_draw_is_said(self):
        done = self.run_dither("generate", "apple", "--width", "64", *FAST)
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"dither: warning: ", done.stderr)
        self.assertIn(b"128x128", done.stderr)


if __name__ == "__main__":
    main()
