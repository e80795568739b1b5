"""dither inspect on models, components, checkpoints and pictures."""

import json

from command import (FAST, MODEL, ROOT, CommandTest, main, read_safetensors, write_safetensors,
                     write_sparse_safetensors)

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


def flux2_shapes(config):
    """(linear layers of the blocks, all other tensors) of a FLUX.2 transformer: {name: shape}. Names and
    shapes are those of diffusers' Flux2Transformer2DModel."""
    d = config["num_attention_heads"] * config["attention_head_dim"]
    head, ff = config["attention_head_dim"], int(config["mlp_ratio"] * d)
    blocks, others = {}, {}
    for i in range(config["num_layers"]):
        block = f"transformer_blocks.{i}"
        for name in ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj",
                     "to_add_out"]:
            blocks[f"{block}.attn.{name}.weight"] = [d, d]
        for name in ["norm_q", "norm_k", "norm_added_q", "norm_added_k"]:
            others[f"{block}.attn.{name}.weight"] = [head]
        for name in ["ff", "ff_context"]:
            blocks[f"{block}.{name}.linear_in.weight"] = [2 * ff, d]
            blocks[f"{block}.{name}.linear_out.weight"] = [d, ff]
    for i in range(config["num_single_layers"]):
        attention = f"single_transformer_blocks.{i}.attn"
        blocks[f"{attention}.to_qkv_mlp_proj.weight"] = [3 * d + 2 * ff, d]
        blocks[f"{attention}.to_out.weight"] = [d, d + ff]
        others[f"{attention}.norm_q.weight"] = others[f"{attention}.norm_k.weight"] = [head]
    embedders = ["timestep", "guidance"] if config["guidance_embeds"] else ["timestep"]
    for name in embedders:
        embedder = f"time_guidance_embed.{name}_embedder"
        others[f"{embedder}.linear_1.weight"] = [d, config["timestep_guidance_channels"]]
        others[f"{embedder}.linear_2.weight"] = [d, d]
    others["double_stream_modulation_img.linear.weight"] = [6 * d, d]
    others["double_stream_modulation_txt.linear.weight"] = [6 * d, d]
    others["single_stream_modulation.linear.weight"] = [3 * d, d]
    others["x_embedder.weight"] = [d, config["in_channels"]]
    others["context_embedder.weight"] = [d, config["joint_attention_dim"]]
    others["norm_out.linear.weight"] = [2 * d, d]
    others["proj_out.weight"] = [config["in_channels"], d]
    return blocks, others


class FullSize(CommandTest):
    """Folders as ModelOpt exports them, with headers of the true shapes in front of holes."""

    SHARDS = 4

    def export(self, name):
        """A FLUX.2 transformer in FP8; returns its folder."""
        config = json.loads((ROOT / "models/configs" / name / "transformer/config.json").read_text())
        micro = ROOT / "tests/golden/modelopt/flux2-micro/hf/config.json"  # ModelOpt's own
        config["quantization_config"] = json.loads(micro.read_text())["quantization_config"]
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        blocks, others = flux2_shapes(config)
        shards = [{} for _ in range(self.SHARDS)]
        for i, (weight, shape) in enumerate(blocks.items()):
            layer = weight.removesuffix(".weight")
            shards[i % self.SHARDS].update({weight: ("F8_E4M3", shape),
                                            f"{layer}.weight_scale": ("F32", []),
                                            f"{layer}.input_scale": ("F32", [])})
        for i, (tensor, shape) in enumerate(others.items()):
            shards[i % self.SHARDS][tensor] = ("BF16", shape)
        weight_map = {}
        for i, shard in enumerate(shards):
            file = f"diffusion_pytorch_model-{i + 1:05}-of-{self.SHARDS:05}.safetensors"
            write_sparse_safetensors(folder / file, shard)
            weight_map.update(dict.fromkeys(shard, file))
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map}))
        return folder

    def test_flux2_in_fp8(self):
        # Parameters: published. 12 layers in a double block, 2 in a single one; of the rest dev's
        # guidance embedder has two.
        for name, parameters, tensors, fp8, kept in [("flux2-dev", 32_223_281_152, 331, 192, 11),
                                                     ("flux2-klein-4b", 3_875_544_576, 169, 100, 9),
                                                     ("flux2-klein-9b", 9_078_581_248, 233, 144, 9)]:
            with self.subTest(name):
                folder = self.export(name)
                on_disk = sum(512 * path.stat().st_blocks for path in folder.iterdir())
                self.assertLess(on_disk, 1 << 20)
                lines = self.succeed("inspect", folder).splitlines()
                self.assertEqual([line for line in lines if "linears" in line],
                                 [f"{name}: {fp8} FP8 linears, 1 BF16 by exclusion, {kept - 1} BF16 "
                                  "by profile flux2"])
                document = json.loads(self.succeed("inspect", folder, "--json"))
                component = document["components"][0]
                self.assertEqual(component["tensor_count"], tensors + 2 * fp8)
                self.assertEqual(component["parameters"], parameters + 2 * fp8)
                formats = [layer["executed"] for layer in component["layers"]]
                self.assertEqual((formats.count("FP8"), len(formats)), (fp8, fp8 + kept))
                self.assertTrue(all(not layer["problem"] for layer in component["layers"]))


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
