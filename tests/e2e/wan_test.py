"""Wan through the command, on the tiny pipeline of tests/golden/wan."""

import array
import json
import shutil

from command import MODEL, ROOT, CommandTest, main, png_chunks, png_size, read_safetensors

MICRO = ROOT / "tests" / "golden" / "wan" / "pipeline"
GOLDEN = ROOT / "tests" / "golden" / "wan" / "pipeline.safetensors"
CONFIGS = ROOT / "models" / "configs"
PROMPT = "A red fox  runs &amp; jumps over the snow"
GUIDED = ["--guidance-scale", "4", "--guidance-scale-2", "3", "--flow-shift", "12",
          "--negative-prompt", "blurry, static", "--seed", "7", "--dtype", "f32"]


def floats(path, name):
    header, data = read_safetensors(path)
    begin, end = header[name]["data_offsets"]
    return array.array("f", data[begin:end])


def relative_l2(actual, expected):
    difference = sum((a - b) ** 2 for a, b in zip(actual, expected, strict=True))
    return (difference / sum(b * b for b in expected)) ** 0.5


class Wan(CommandTest):
    def generate(self, *arguments):
        return self.succeed("generate", PROMPT, "--model-path", MICRO, *arguments)

    def copy(self, **index):
        """A copy with keys of model_index.json changed."""
        copy = self.folder / "copy"
        shutil.copytree(MICRO, copy)
        file = copy / "model_index.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | index))
        return copy

    def test_latents_are_diffusers(self):
        self.generate(*GUIDED, "-o", "frames/", "--save-trajectory", "t.safetensors")
        trajectory = self.folder / "t.safetensors"
        for name, golden in [("initial_latents", "guided.initial_latents"),
                             ("latents", "guided.latents"),
                             ("prompt_embeds", "prompt_embeds")]:
            self.assertLess(relative_l2(floats(trajectory, name), floats(GOLDEN, golden)), 1e-4)
        frames = sorted((self.folder / "frames").iterdir())
        self.assertEqual(len(frames), 9)
        for frame in frames:
            self.assertEqual(png_size(frame.read_bytes()), (48, 32))

    def test_videos_are_files_of_their_names(self):
        out = self.generate("--num-outputs-per-prompt", "2", "-o", "fox.mp4")
        self.assertEqual(out, "fox-0.mp4\nfox-1.mp4\n")
        first, second = (self.folder / f"fox-{i}.mp4" for i in range(2))
        self.assertEqual(first.read_bytes()[4:8], b"ftyp")
        self.assertNotEqual(first.read_bytes(), second.read_bytes())
        self.generate("-o", "fox.webp", "--num-frames", "5")
        webp = (self.folder / "fox.webp").read_bytes()
        self.assertEqual((webp[:4], webp[8:12], webp.count(b"ANMF")), (b"RIFF", b"WEBP", 5))
        self.assertEqual(self.generate("--seed", "3"),
                         "out/a_red_fox_runs_amp_jumps_over_the_snow-seed3.mp4\n")

    def test_tiles(self):
        large = ["--width", "288", "--num-frames", "5", "--num-inference-steps", "2"]
        self.generate(*large, "-o", "whole/")
        self.generate(*large, "--vae-tiling", "-o", "tiles/")
        first = min((self.folder / "tiles").iterdir())
        self.succeed("generate", "--from", first, "-o", "again/")
        self.succeed("generate", "--from", first, "--vae-tiling=false", "-o", "not/")
        frames = {name: [file.read_bytes() for file in sorted((self.folder / name).iterdir())]
                  for name in ["whole", "tiles", "again", "not"]}
        self.assertEqual(len(frames["whole"]), 5)
        self.assertNotEqual(frames["whole"], frames["tiles"])
        self.assertEqual(frames["tiles"], frames["again"])
        self.assertEqual([[chunk for chunk in png_chunks(data) if chunk[0] == "IDAT"]
                          for data in frames["whole"]],
                         [[chunk for chunk in png_chunks(data) if chunk[0] == "IDAT"]
                          for data in frames["not"]])

    def test_says_what_is_not_seen(self):
        done = self.run_dither("generate", PROMPT, "--model-path", MICRO, "-o", "a/")
        self.assertIn(b"48x32, 9 frames at 8 a second, 6 steps, shift 12, guidance 4 and 3\n",
                      done.stderr)

    def test_every_expert_has_its_own_weights(self):
        common = ["--dtype", "f32", "--num-inference-steps", "2", "--flow-shift", "0.1"]
        videos = {}
        for name, options in {
                "none": [], "same": ["--transformer-2-path", MICRO / "transformer_2"],
                "first": ["--transformer-path", MICRO / "transformer_2"],
                "second": ["--transformer-2-path", MICRO / "transformer"],
                "weights": ["--transformer-2-weights-path", MICRO / "transformer"]}.items():
            self.generate(*common, *options, "-o", f"{name}/")
            videos[name] = [[chunk for chunk in png_chunks(frame.read_bytes()) if chunk[0] == "IDAT"]
                            for frame in sorted((self.folder / name).iterdir())]
        self.assertEqual(videos["none"], videos["same"])
        self.assertEqual(videos["second"], videos["weights"])
        self.assertEqual(len({str(videos[name]) for name in ["none", "first", "second"]}), 3)

    def test_experts_are_quantized_one_by_one(self):
        for component in ["transformer", "transformer_2"]:
            self.succeed("quantize", "--model-path", MICRO, "--component", component,
                         "--output-dir", "fp8", "--profile", "none")
        self.fail_with(2, "quantize", "--model-path", MICRO, "--component", "transformer_2",
                       "--output-dir", "few", "--profile", "none", "--n-steps", "2", "--quiet",
                       says=["transformer_2 never ran in 2 steps"])
        for first, second in [(True, False), (False, True), (True, True)]:
            options = ["--transformer-path", "fp8/transformer"] if first else []
            options += ["--transformer-2-path", "fp8/transformer_2"] if second else []
            done = self.run_dither("generate", "fox", "--model-path", MICRO, *options, "-o", "a/")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(b"\ntransformer: " in b"\n" + done.stderr, first)
            self.assertEqual(b"\ntransformer_2: " in b"\n" + done.stderr, second)
        self.succeed("compare", "fox", "--model-path", MICRO, "--candidate-transformer-2-path",
                     "fp8/transformer_2", "--output-json", "c.json", "--html", "c.html")
        metrics = json.loads((self.folder / "c.json").read_text())["output_metrics"]
        self.assertEqual((metrics["num_frames"], metrics["mid_frame_index"]), (9, 4))
        page = (self.folder / "c.html").read_text()
        for text in ["PSNR of every frame", "transformer_2.blocks.0.attn1.to_q", "middle frame"]:
            self.assertIn(text, page)

    def test_bad_input(self):
        common = ["generate", "fox", "--model-path", MICRO]
        for options, says in [
                (["--num-frames", "10"], ["num-frames 10", "9 and 13"]),
                (["--width", "40"], ["width 40", "32 and 48"]),
                (["--flow-shift", "0"], ["flow-shift 0"]),
                (["-o", "fox.png"], ["fox.png", ".mp4"]),
                (["--grid", "2"], ["--grid"])]:
            with self.subTest(options):
                self.fail_with(2, *common, *options, "--quiet", says=says)
        self.fail_with(1, *common, "--text-encoder-2-path", MICRO,
                       says=["no component 'text_encoder_2'"])
        self.fail_with(1, "generate", "fox", "--model-path", MODEL, "--modelopt-backbone-2", ".",
                       says=["--modelopt-backbone-2", "no component 'transformer_2'"])
        self.fail_with(2, "generate", "fox", "--model-path", MODEL, "--num-frames", "9",
                       says=["num-frames 9", "pictures, not videos"])
        self.assert_no_file()

    def test_experts_that_do_not_fit(self):
        for index, says in [({"boundary_ratio": 1.0}, "must lie between 0 and 1"),
                            ({"boundary_ratio": None}, "no 'boundary_ratio'"),
                            ({"transformer_2": [None, None]}, "transformer_2 is missing")]:
            with self.subTest(says):
                self.fail_with(1, "generate", "fox", "--model-path", self.copy(**index),
                               says=["model_index.json", says])
                shutil.rmtree(self.folder / "copy")
        copy = self.copy()
        shutil.rmtree(copy / "transformer_2")
        self.fail_with(1, "generate", "fox", "--model-path", copy,
                       says=["transformer_2: no such folder", "model_index.json"])

    def test_inspect_and_bench(self):
        text = self.succeed("inspect", MICRO)
        for word in ["WanPipeline", "transformer_2  WanTransformer3DModel"]:
            self.assertIn(word, text)
        self.succeed("bench", "--model-path", MICRO, "--runs", "1", "--json", "b.json")
        result = json.loads((self.folder / "b.json").read_text())["results"][0]
        self.assertEqual(result["video"], {"num_frames": 9, "guidance_scale": 4,
                                           "guidance_scale_2": 3, "flow_shift": 12})
        self.assertEqual(len(result["samples"][0]["denoise_steps_ms"]), 6)


if __name__ == "__main__":
    main()
