"""dither bench: what it prints and writes, comparison with a saved run, weights that are made up."""

import json
import shutil

from command import EXECUTED_BF16, FAST, MODEL, CommandTest, main

RUN = [*FAST, "--runs", "2", "--warmup", "0"]


class Bench(CommandTest):
    def configs(self):
        """The demo model's configs, without weights and tokenizers."""
        folder = self.folder / "configs"
        for path in MODEL.rglob("*.json"):
            name = path.relative_to(MODEL)
            if name.parts[0] in ("train", "tokenizer", "tokenizer_2"):
                continue
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
        return folder

    def test_a_saved_run_is_compared_with(self):
        table = self.succeed("bench", *RUN, "--json", "saved.json")
        self.assertNotIn("saved", table)
        saved = json.loads((self.folder / "saved.json").read_text())["results"][0]
        self.assertEqual((saved["device"], saved["load_format"]), ("cpu", "auto"))
        self.assertEqual([len(s["denoise_steps_ms"]) for s in saved["samples"]], [2, 2])
        self.assertGreater(saved["median_step_ms"], 0)

        table = self.succeed("bench", *RUN, "--against", "saved.json")
        self.assertRegex(table, r"bf16 +saved +ratio\n")
        self.assertRegex(table, r"denoising step, median +[\d.]+ ms +[\d.]+ ms +\d+\.\d{3}\n")
        self.assertNotIn("another measurement", table)
        other = self.succeed("bench", *RUN, "--dtype", "f32", "--against", "saved.json")
        self.assertIn("dtype 'bf16' -> 'f32'", other)

    def test_a_cpu_has_no_kernels_to_trace(self):
        done = self.run_dither("bench", *RUN, "--device", "cpu", "--profile", "trace.json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"device cpu has no kernels to trace", done.stderr)
        self.assertNotIn(b"Layers of", done.stdout)
        events = json.loads((self.folder / "trace.json").read_text())["traceEvents"]
        self.assertEqual([event["args"]["name"] for event in events], ["kernels", "layers"])

    def test_what_cannot_be_compared_with(self):
        (self.folder / "empty.json").write_text("{}")
        (self.folder / "text.json").write_text("fast")
        for name in ["nothing.json", "empty.json", "text.json"]:
            with self.subTest(name):
                self.fail_with(1, "bench", *RUN, "--against", name, says=[name])

    def test_weights_can_be_made_up(self):
        configs = self.configs()
        table = self.succeed("bench", "--model-path", configs, "--load-format", "dummy",
                             "--dummy-quantization", "fp8-profile", *RUN, "--json", "dummy.json")
        self.assertIn("dummy weights (fp8-profile)", table)
        result = json.loads((self.folder / "dummy.json").read_text())["results"][0]
        self.assertEqual((result["load_format"], result["dummy_quantization"]),
                         ("dummy", "fp8-profile"))
        self.fail_with(1, "bench", "--model-path", configs, *RUN, says=["configs/"])

    def test_a_dummy_picture_says_so(self):
        configs = self.configs()
        done = self.run_dither("generate", "owl", "--model-path", configs, "--load-format", "dummy",
                               *FAST, "-o", "owl.png")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr.decode(), f"transformer: 62 {EXECUTED_BF16}, 0 silent")
        shown = json.loads(self.succeed("inspect", "owl.png", "--json"))
        self.assertEqual(shown["parameters"]["load_format"], "dummy")
        self.fail_with(2, "generate", "--from", "owl.png", "-o", "again.png", says=["dummy weights"])
        self.assertFalse((self.folder / "again.png").exists())

    def test_dummy_options_that_contradict(self):
        for options, says in [
                (["--dummy-quantization", "fp8-full"], "--load-format dummy"),
                (["--load-format", "dummy", "--transformer-weights-path", MODEL], "exclude"),
        ]:
            with self.subTest(options):
                self.fail_with(2, "generate", "owl", *options, "-o", "owl.png", says=[says])
        self.fail_with(2, "generate", "owl", "--load-format", "dumy", says=["dummy"])


if __name__ == "__main__":
    main()
