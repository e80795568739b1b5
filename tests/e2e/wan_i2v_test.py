"""Videos that begin with a picture, through the command, on the tiny pipelines of tests/golden/wan."""

import array
import json
import shutil

from command import (ROOT, CommandTest, main, png_chunks, read_safetensors, write_png,
                     write_safetensors)

WAN = ROOT / "tests" / "golden" / "wan"
MICRO = WAN / "pipeline"
GOLDEN = WAN / "i2v.safetensors"
PROMPT = "A red fox  runs &amp; jumps over the snow"
AS_GOLDEN = ["--guidance-scale", "3.5", "--guidance-scale-2", "3", "--flow-shift", "5",
             "--negative-prompt", "blurry, static", "--seed", "7", "--dtype", "f32",
             "--width", "48", "--height", "32"]


def tensor(path, name):
    """(shape, bytes)"""
    header, data = read_safetensors(path)
    begin, end = header[name]["data_offsets"]
    return header[name]["shape"], data[begin:end]


def relative_l2(actual, expected):
    actual, expected = array.array("f", actual), array.array("f", expected)
    difference = sum((a - b) ** 2 for a, b in zip(actual, expected, strict=True))
    return (difference / sum(b * b for b in expected)) ** 0.5


def change_json(path, **keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def replace_tensor(path, name, shape, content):
    header, data = read_safetensors(path)
    begin, end = header[name]["data_offsets"]
    grown = len(content) - (end - begin)
    for key, entry in header.items():
        if key != "__metadata__" and entry["data_offsets"][0] >= end:
            entry["data_offsets"] = [offset + grown for offset in entry["data_offsets"]]
    header[name] |= {"shape": shape, "data_offsets": [begin, end + grown]}
    write_safetensors(path, header, data[:begin] + content + data[end:])


class WanPictures(CommandTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        shutil.copytree(MICRO, self.model)
        (height, width, _), pixels = tensor(GOLDEN, "i2v.picture")
        write_png(self.folder / "a.png", width, height, pixels)

    def make_i2v(self):
        for expert in ["transformer", "transformer_2"]:
            name = "patch_embedding.weight"
            change_json(self.model / expert / "config.json", in_channels=12)
            replace_tensor(self.model / expert / "diffusion_pytorch_model.safetensors", name,
                           *tensor(GOLDEN, f"i2v.{expert}.{name}"))
        change_json(self.model / "model_index.json", _class_name="WanImageToVideoPipeline",
                    boundary_ratio=0.9, image_encoder=[None, None], image_processor=[None, None])

    def make_ti2v(self):
        change_json(self.model / "model_index.json", expand_timesteps=True, boundary_ratio=None,
                    transformer_2=[None, None])

    def frames(self, folder):
        """The pixels of every frame."""
        return [[chunk for chunk in png_chunks(file.read_bytes()) if chunk[0] == "IDAT"]
                for file in sorted((self.folder / folder).iterdir())]

    def test_latents_are_diffusers(self):
        self.make_i2v()
        said = self.run_dither("generate", PROMPT, "--model-path", self.model, *AS_GOLDEN,
                               "--image-path", "a.png", "-o", "frames/", "--save-trajectory",
                               "t.safetensors")
        self.assertEqual(said.returncode, 0, said.stderr)
        self.assertIn(b"image-path 'a.png': 57x23 is stretched to the video's 48x32", said.stderr)
        self.assertLess(relative_l2(tensor(self.folder / "t.safetensors", "latents")[1],
                                    tensor(GOLDEN, "i2v.latents")[1]), 1e-4)
        self.assertEqual(len(self.frames("frames")), 9)

    def test_videos_are_made_again(self):
        for make in [self.make_i2v, self.make_ti2v]:
            shutil.rmtree(self.model)
            shutil.copytree(MICRO, self.model)
            make()
            with self.subTest(make.__name__):
                self.succeed("generate", "fox", "--model-path", self.model, "--image-path",
                             "a.png", "-o", "one/")
                first = min((self.folder / "one").iterdir())
                self.succeed("generate", "--from", first, "-o", "again/")
                self.assertEqual(self.frames("one"), self.frames("again"))
                write_png(self.folder / "b.png", 48, 32)
                self.succeed("generate", "--from", first, "--image-path", "b.png", "-o", "other/")
                self.assertNotEqual(self.frames("one"), self.frames("other"))

    def test_tiles_are_of_the_picture_too(self):
        self.make_i2v()
        for name, options in [("whole", []), ("tiles", ["--vae-tiling"])]:
            self.succeed("generate", "fox", "--model-path", self.model, "--image-path", "a.png",
                         "--width", "288", "--height", "32", "--num-frames", "5",
                         "--num-inference-steps", "2", "--dtype", "f32", "--save-trajectory",
                         f"{name}.safetensors", "-o", f"{name}/", *options)
        whole, tiles = (tensor(self.folder / f"{name}.safetensors", "latents")[1]
                        for name in ["whole", "tiles"])
        self.assertNotEqual(whole, tiles)
        self.assertLess(relative_l2(tiles, whole), 0.1)

    def test_a_model_for_both_does_without(self):
        (self.folder / "text").mkdir()
        shutil.copytree(self.model, self.folder / "text" / "model")
        change_json(self.folder / "text/model/model_index.json", boundary_ratio=None,
                    transformer_2=[None, None])
        self.make_ti2v()
        self.succeed("generate", "fox", "--model-path", self.folder / "text/model", "-o", "t2v/")
        self.succeed("generate", "fox", "--model-path", self.model, "-o", "without/")
        self.succeed("generate", "fox", "--model-path", self.model, "--image-path", "a.png", "-o",
                     "with/")
        self.assertEqual(self.frames("t2v"), self.frames("without"))
        self.assertNotEqual(self.frames("with")[0], self.frames("without")[0])
        # One latent frame, which is given: the picture as the autoencoder has it.
        for seed in ["1", "2"]:
            self.succeed("generate", "fox", "--model-path", self.model, "--image-path", "a.png",
                         "--num-frames", "1", "--seed", seed, "-o", f"still{seed}/")
        self.assertEqual(self.frames("still1"), self.frames("still2"))

    def test_bad_input(self):
        self.fail_with(2, "generate", "fox", "--model-path", MICRO, "--image-path", "a.png",
                       says=["image-path 'a.png'", "from text alone", "Wan2.2-I2V-A14B"])
        self.make_i2v()
        common = ["generate", "fox", "--model-path", self.model]
        data = (self.folder / "a.png").read_bytes()
        (self.folder / "cut.png").write_bytes(data[:len(data) // 2])
        (self.folder / "text.png").write_text("hello")
        for status, options, says in [
                (2, [], ["image-path: missing", "first frame"]),
                (2, ["--image-path", "a.png", "--image-path", "a.png"],
                 ["image-path: 2 pictures", "takes one"]),
                (1, ["--image-path", "cut.png"], ["cut.png"]),
                (1, ["--image-path", "text.png"], ["text.png"]),
                (1, ["--image-path", "none.png"], ["none.png"])]:
            with self.subTest(options):
                self.fail_with(status, *common, *options, "--quiet", says=says)
        self.assertFalse((self.folder / "out").exists())

    def test_models_that_do_not_fit(self):
        self.make_i2v()
        index = self.model / "model_index.json"
        config = self.model / "transformer" / "config.json"
        for file, keys, says in [
                (index, {"_class_name": "WanPipeline"},
                 ["in_channels 12 does not fit WanPipeline", "must be 4"]),
                (index, {"expand_timesteps": True}, ["with expand_timesteps: must be 4"]),
                (config, {"in_channels": 4}, ["transformer_2 in_channels 12"]),
                (config, {"image_dim": 1280, "added_kv_proj_dim": 32}, ["Wan2.1", "CLIP"])]:
            with self.subTest(says):
                before = file.read_text()
                change_json(file, **keys)
                self.fail_with(1, "generate", "fox", "--model-path", self.model, "--image-path",
                               "a.png", says=says)
                file.write_text(before)

    def test_other_commands(self):
        self.make_i2v()
        text = self.succeed("inspect", self.model)
        for word in ["WanImageToVideoPipeline", "transformer_2  WanTransformer3DModel"]:
            self.assertIn(word, text)
        self.assertNotIn("image_encoder", text)
        picture = ["--image-path", "a.png", "--model-path", self.model]
        for options in [[], ["--load-format", "dummy", "--dummy-quantization", "none"]]:
            self.succeed("bench", *picture, *options, "--runs", "1", "--warmup", "0")
        self.succeed("quantize", *picture, "--output-dir", "fp8", "--profile", "none", "--quiet",
                     "--json", "q.json")
        self.assertEqual(json.loads((self.folder / "q.json").read_text())["image_paths"],
                         ["a.png"])
        self.succeed("compare", "fox", *picture, "--candidate-transformer-path",
                     "fp8/transformer", "--quiet", "--fail-below", "cosine=0.98")


if __name__ == "__main__":
    main()
