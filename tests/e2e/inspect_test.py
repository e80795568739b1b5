"""dither inspect on models, components, checkpoints and pictures."""

import json

from command import FAST, MODEL, CommandTest, main, read_safetensors, write_safetensors

TRANSFORMER = MODEL / "transformer" / "diffusion_pytorch_model.safetensors"


class Checkpoints(CommandTest):
    def test_a_model(self):
        text = self.succeed("inspect", MODEL)
        for word in ["FluxPipeline", "transformer", "FluxTransformer2DModel", "AutoencoderKL",
                     "128x128", "20 steps"]:
            self.assertIn(word, text)
        document = json.loads(self.succeed("inspect", MODEL, "--json"))
        self.assertEqual((document["kind"], document["class"]), ("pipeline", "FluxPipeline"))
        parts = {part["name"]: part for part in document["components"]}
        self.assertEqual(document["bytes"], sum(part["bytes"] for part in parts.values()))
        header, data = read_safetensors(TRANSFORMER)
        header.pop("__metadata__", None)
        self.assertEqual(parts["transformer"]["tensor_count"], len(header))
        self.assertEqual(parts["transformer"]["bytes"], len(data))

    def test_a_component_shows_its_config(self):
        config = json.loads((MODEL / "transformer" / "config.json").read_text())
        document = json.loads(self.succeed("inspect", MODEL / "transformer", "--json"))
        self.assertEqual(document["kind"], "component")
        shown = document["components"][0]["config"]
        self.assertEqual(shown["num_layers"], config["num_layers"])
        self.assertIn("num_layers", self.succeed("inspect", MODEL / "transformer"))

    def test_tensors_of_a_file(self):
        document = json.loads(self.succeed("inspect", TRANSFORMER, "--json", "--tensors"))
        self.assertEqual(document["kind"], "file")
        header, _ = read_safetensors(TRANSFORMER)
        header.pop("__metadata__", None)
        listed = {t["name"]: (t["dtype"], t["shape"])
                  for t in document["components"][0]["tensors"]}
        self.assertEqual(listed, {n: (t["dtype"], t["shape"]) for n, t in header.items()})
        lines = self.succeed("inspect", TRANSFORMER, "--tensors")
        self.assertRegex(lines, r"x_embedder\.weight +BF16 +\[\d+, 64\]")
        self.assertNotIn("x_embedder.weight", self.succeed("inspect", TRANSFORMER))

    def test_hostile_names_stay_on_their_line(self):
        write_safetensors(self.folder / "x.safetensors",
                          {"a\n\x1b[31mb": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}},
                          b"x")
        done = self.run_dither("inspect", "x.safetensors", "--tensors")
        self.assertEqual(done.returncode, 0)
        self.assertNotIn(b"\x1b", done.stdout)

    def test_what_cannot_be_inspected(self):
        (self.folder / "empty").mkdir()
        (self.folder / "text.txt").write_text("hello")
        (self.folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
        (self.folder / "cut.safetensors").write_bytes(TRANSFORMER.read_bytes()[:5000])
        for name in ["nothing", "empty", "text.txt", "cut.png", "cut.safetensors"]:
            with self.subTest(name):
                self.fail_with(1, "inspect", name, says=[name])
        self.fail_with(2, "inspect")


class Pictures(CommandTest):
    def test_the_parameters(self):
        self.succeed("generate", "a \U0001F34E", "--seed", "3", "-o", "a.png", *FAST)
        text = self.succeed("inspect", "a.png")
        for word in ["128x128", "a \U0001F34E", "generate --from a.png", "emoji-flux"]:
            self.assertIn(word, text)
        document = json.loads(self.succeed("inspect", "a.png", "--json"))
        parameters = document["parameters"]
        self.assertEqual((document["kind"], document["width"]), ("picture", 128))
        self.assertEqual(parameters["prompt"], "a \U0001F34E")
        self.assertEqual((int(parameters["seed"]), parameters["num_inference_steps"]), (3, 2))

    def test_a_grid_carries_none(self):
        self.succeed("generate", "apple", "-o", "a.png", "--grid", "1", *FAST)
        self.assertIn("PNG", self.succeed("inspect", "a-grid.png"))
        self.fail_with(1, "generate", "--from", "a-grid.png", says=["a-grid.png", "parameters"])


if __name__ == "__main__":
    main()
