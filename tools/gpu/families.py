"""What floor.py, peer.py and measure.py know of each model family: products, attentions, peer.

Shapes are those of 1024 x 1024 pixels and 512 text tokens (FLUX), 832 x 480 pixels, 81 frames and 512
text tokens (Wan), batch 1. `tiny` ones are small, to try a script without a GPU.
Sources of what stays in bf16: ModelOpt's examples/diffusers/quantization and, for FLUX.1's profile,
SGLang's convert_modelopt_fp8_checkpoint.py; the same as in src/quant/{modelopt_filter,profile}.cc.
"""
import re

import torch

from gpu_timing import DEVICE

BF16 = torch.bfloat16


def normal(*shape):
    return torch.randn(*shape, device=DEVICE, dtype=BF16)


def position_ids(rows, cols, axes):
    """[rows * cols, axes]: row in column 1, column in column 2."""
    ids = torch.zeros(rows, cols, axes, device=DEVICE)
    ids[..., 1] += torch.arange(rows, device=DEVICE)[:, None]
    ids[..., 2] += torch.arange(cols, device=DEVICE)[None]
    return ids.reshape(rows * cols, axes)


class Family:
    """One model. Subclasses say what its step multiplies and how diffusers is called.

    step(variant): [(kind, ...)] in order: ("g", m, n, k, fp8) product, ("m", m, n, k, fp8) modulation,
    ("a", heads, q_tokens, k_tokens) self-attention, ("x", ...) cross-attention.
    """

    name = ""
    variants = ("bf16", "fp8-full")
    config_folder = ""
    head_dim = 128
    bench_arguments = ()
    steps = 50  # of a dither bench
    parked = False  # the peer waits in host memory while others are timed
    fp8_attentions = 0  # of a step, for floor D
    kept = {}  # variant: pattern of the linear layers in bf16
    float32_modules = ()  # name parts

    def __init__(self, tiny=False):
        self.tiny = tiny
        if tiny:
            self.head_dim = 32

    def step(self, variant):
        raise NotImplementedError

    def peer_class(self):
        raise NotImplementedError

    def peer_config(self):
        raise NotImplementedError

    def peer_inputs(self):
        raise NotImplementedError


class Flux1(Family):
    name = "flux1"
    variants = ("bf16", "fp8-profile", "fp8-full")
    config_folder = "models/configs/flux1-dev"
    fp8_attentions = 57
    FILTER = r"proj_out|(time_text_embed|context_embedder|x_embedder|norm_out)(\..*)?"
    PROFILE = (r"transformer_blocks\.\d+\.(norm1|norm1_context)\.linear|"
               r"transformer_blocks\.\d+\.(ff|ff_context)\.net\.(0\.proj|2)|"
               r"single_transformer_blocks\.\d+\.norm\.linear")
    kept = {"fp8-profile": re.compile(f"({FILTER}|{PROFILE})$"), "fp8-full": re.compile(f"({FILTER})$")}

    def step(self, variant):
        heads, d, image, text, double, single = 24, 3072, 4096, 512, 19, 38
        if self.tiny:
            heads, d, image, text, double, single = 2, 64, 64, 16, 2, 2
        fp8 = variant != "bf16"
        rest = variant == "fp8-full"  # feed-forward and modulation: bf16 in the profile
        tokens = image + text
        attention = ("a", heads, tokens, tokens)
        double_block = [
            ("m", 1, 6 * d, d, rest), ("m", 1, 6 * d, d, rest),
            ("g", image, 3 * d, d, fp8), ("g", text, 3 * d, d, fp8), attention,
            ("g", image, d, d, fp8), ("g", text, d, d, fp8),
            ("g", image, 4 * d, d, rest), ("g", image, d, 4 * d, rest),
            ("g", text, 4 * d, d, rest), ("g", text, d, 4 * d, rest),
        ]
        single_block = [("m", 1, 3 * d, d, rest), ("g", tokens, 7 * d, d, fp8), attention,
                        ("g", tokens, d, 5 * d, fp8)]
        return double * double_block + single * single_block

    def peer_class(self):
        from diffusers import FluxTransformer2DModel
        return FluxTransformer2DModel

    def peer_config(self):
        config = {"guidance_embeds": True}
        if self.tiny:
            config.update(num_layers=2, num_single_layers=2, num_attention_heads=2,
                          joint_attention_dim=64, pooled_projection_dim=32)
        return config

    def peer_inputs(self):
        rows, text, joint, pooled = (8, 16, 64, 32) if self.tiny else (64, 512, 4096, 768)
        return {
            "hidden_states": normal(1, rows * rows, 64),
            "encoder_hidden_states": normal(1, text, joint),
            "pooled_projections": normal(1, pooled),
            "timestep": torch.tensor([0.5], device=DEVICE, dtype=BF16),
            "guidance": torch.tensor([3.5], device=DEVICE),
            "img_ids": position_ids(rows, rows, 3).to(BF16),
            "txt_ids": torch.zeros(text, 3, device=DEVICE, dtype=BF16),
        }


class Flux2(Family):
    name = "flux2"
    config_folder = "models/configs/flux2-dev"
    bench_arguments = ("--text-encoder-cpu-offload",)
    steps = 20
    parked = True
    fp8_attentions = 56
    kept = {"fp8-full": re.compile(
        r"(proj_out|.*(context_embedder|x_embedder|norm_out|time_guidance_embed|stream_modulation).*)$")}

    def step(self, variant):
        heads, d, image, text, double, single = 48, 6144, 4096, 512, 8, 48
        if self.tiny:
            heads, d, image, text, double, single = 2, 64, 64, 16, 2, 2
        fp8 = variant != "bf16"
        tokens = image + text
        attention = ("a", heads, tokens, tokens)
        double_block = [
            ("g", image, 3 * d, d, fp8), ("g", text, 3 * d, d, fp8), attention,
            ("g", image, d, d, fp8), ("g", text, d, d, fp8),
            ("g", image, 6 * d, d, fp8), ("g", image, d, 3 * d, fp8),
            ("g", text, 6 * d, d, fp8), ("g", text, d, 3 * d, fp8),
        ]
        single_block = [("g", tokens, 9 * d, d, fp8), attention, ("g", tokens, d, 4 * d, fp8)]
        return double * double_block + single * single_block

    def peer_class(self):
        from diffusers import Flux2Transformer2DModel
        return Flux2Transformer2DModel

    def peer_config(self):
        if not self.tiny:
            return {}
        return dict(num_layers=2, num_single_layers=2, num_attention_heads=2, joint_attention_dim=64)

    def peer_inputs(self):
        rows, text, joint = (8, 16, 64) if self.tiny else (64, 512, 15360)
        text_ids = torch.zeros(text, 4, device=DEVICE)
        text_ids[:, 3] = torch.arange(text, device=DEVICE)
        return {
            "hidden_states": normal(1, rows * rows, 128),
            "encoder_hidden_states": normal(1, text, joint),
            "timestep": torch.tensor([0.5], device=DEVICE, dtype=BF16),
            "guidance": torch.tensor([4.0], device=DEVICE),
            "img_ids": position_ids(rows, rows, 4)[None],
            "txt_ids": text_ids[None],
        }


class Wan(Family):
    """One expert of Wan2.2-A14B; a step without classifier-free guidance is one forward."""

    name = "wan"
    config_folder = "models/configs/wan2.2-t2v-a14b"
    bench_arguments = ("--width", "832", "--height", "480", "--num-frames", "81",
                       "--guidance-scale", "1", "--guidance-scale-2", "1")
    latent_size = (60, 104)
    steps = 4
    parked = True
    fp8_attentions = 40
    # ModelOpt's filter leaves the first and the last three blocks in bf16.
    kept = {"fp8-full": re.compile(
        r"(proj_out|.*(patch_embedding|condition_embedder).*|blocks\.(0|1|2|37|38|39)\..*)$")}
    float32_modules = ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")

    def step(self, variant):
        height, width = self.latent_size
        heads, d, ff, blocks, tokens = 40, 5120, 13824, 40, 21 * height * width // 4
        if self.tiny:
            heads, d, ff, blocks, tokens = 2, 64, 160, 8, 48
        text = 16 if self.tiny else 512
        steps = []
        for block in range(blocks):
            fp8 = variant != "bf16" and 3 <= block < blocks - 3
            steps += [("g", tokens, 3 * d, d, fp8), ("a", heads, tokens, tokens),
                      ("g", tokens, d, d, fp8), ("g", tokens, d, d, fp8),
                      ("x", heads, tokens, text), ("g", tokens, d, d, fp8),
                      ("g", tokens, ff, d, fp8), ("g", tokens, d, ff, fp8)]
        return steps

    def peer_class(self):
        from diffusers import WanTransformer3DModel
        return WanTransformer3DModel

    def peer_config(self):
        if not self.tiny:
            return {"num_layers": 40}
        return dict(num_layers=8, num_attention_heads=2, text_dim=64, ffn_dim=512)

    def peer_inputs(self):
        frames, size = (3, (8, 8)) if self.tiny else (21, self.latent_size)
        text, width = (16, 64) if self.tiny else (512, 4096)
        return {
            "hidden_states": normal(1, 16, frames, *size),
            "timestep": torch.tensor([500], device=DEVICE),
            "encoder_hidden_states": normal(1, text, width),
        }


class Wan720(Wan):
    """The same at 1280 x 720."""

    name = "wan720"
    bench_arguments = ("--width", "1280", "--height", "720", "--num-frames", "81",
                       "--guidance-scale", "1", "--guidance-scale-2", "1")
    latent_size = (90, 160)
    steps = 2


FAMILIES = {family.name: family for family in (Flux1, Flux2, Wan, Wan720)}


def add_family_option(parser):
    parser.add_argument("--family", choices=FAMILIES, default="flux1", help="which model")
