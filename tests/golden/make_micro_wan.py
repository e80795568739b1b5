#!/usr/bin/env python3
"""Tiny Wan transformers and what diffusers makes of them, in float32.

Weights and inputs come from seeded.py, so that only results are stored: wan/transformer.safetensors
beside this script, see README.md. The weights differ between variants by their prefixes alone.

    pip install torch==2.15.0 diffusers==0.42.1
    python make_micro_wan.py
"""
import pathlib
import tempfile

import diffusers
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from seeded import fill, seeded

HERE = pathlib.Path(__file__).resolve().parent
GRID = (3, 3, 4)  # tokens: 9 frames of 64 x 48 pixels
TEXT, PROMPT = 12, 7  # rows, of which the prompt has so many; the rest are zeros
TIMESTEPS = (999, 875, 13)
CHANNELS = {"t2v": (16, 16), "i2v": (36, 16), "ti2v": (48, 48)}


def transformer(name):
    """One of the variants: two heads of 128 channels, so that real kernels run."""
    channels_in, channels_out = CHANNELS[name]
    return fill(WanTransformer3DModel(num_attention_heads=2, attention_head_dim=128,
                                      in_channels=channels_in, out_channels=channels_out,
                                      text_dim=64, freq_dim=256, ffn_dim=320, num_layers=2),
                f"{name}.")


def tokens(video):
    """[B, C, F, h, w] as packed tokens [B, F h/2 w/2, 4 C], channels fastest."""
    patches = video.unflatten(4, (-1, 2)).unflatten(3, (-1, 2))  # B C F y dy x dx
    return patches.permute(0, 2, 3, 5, 4, 6, 1).flatten(4).flatten(1, 3)


def video(packed):
    """The inverse."""
    patches = packed.unflatten(2, (2, 2, -1)).unflatten(1, GRID)  # B F y x dy dx C
    return patches.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


def prompt_embeds(name):
    embeds = seeded(f"{name}.prompt_embeds", (1, TEXT, 64))
    embeds[:, PROMPT:] = 0
    return embeds


def in_bfloat16(model):
    """As diffusers loads it: tables, norms and the time embedder stay in float32."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return WanTransformer3DModel.from_pretrained(folder, torch_dtype=torch.bfloat16)


def error(actual, expected):
    return ((actual.float() - expected).norm() / expected.norm()).reshape(1)


def quantized(x, scale):
    codes = (x.float() * (1 / scale)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return (codes.float() * scale).to(x.dtype)


def input_scales(model, run):
    """amax / 448 of what the blocks' linear layers read."""
    layers = {n: m for n, m in model.named_modules()
              if n.startswith("blocks.") and isinstance(m, torch.nn.Linear)}
    amax = dict.fromkeys(layers, 0.0)

    def watch(name):
        def hook(_, x):
            amax[name] = max(amax[name], x[0].abs().max().item())
        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    run()
    for hook in hooks:
        hook.remove()
    return {name: torch.tensor(value, dtype=torch.float32) / 448 for name, value in amax.items()}


def quantize(model, scales):
    """The blocks' linear layers in FP8, products of codes."""
    for name, scale in scales.items():
        layer = model.get_submodule(name)
        weight = layer.weight.float()
        weight_scale = weight.abs().max() / 448
        codes = (weight / weight_scale).to(torch.float8_e4m3fn)
        layer.weight.data = (codes.float() * weight_scale).to(layer.weight.dtype)
        layer.register_forward_pre_hook(
            lambda _, x, scale=scale: (quantized(x[0], scale), *x[1:]))


@torch.no_grad()
def main():
    out = {}
    for name, (channels, _) in CHANNELS.items():
        model = transformer(name)
        packed = seeded(f"{name}.latents", (1, 36, 4 * channels), 2.0)
        embeds = prompt_embeds(name)
        assert torch.equal(tokens(video(packed)), packed)

        def run(t, model=model):
            dtype = model.patch_embedding.weight.dtype
            return tokens(model(video(packed).to(dtype), torch.tensor([t]), embeds.to(dtype),
                                return_dict=False)[0])

        def velocities(model):
            return torch.cat([run(t, model) for t in TIMESTEPS])

        out[f"{name}.velocities"] = velocities(model)
        if name != "t2v":
            continue
        temb, projected, text, _ = model.condition_embedder(torch.tensor(TIMESTEPS), embeds)
        out["t2v.modulations"] = torch.cat([projected, temb], dim=-1)[:, None]
        attentions = [block.attn2 for block in model.blocks]
        out["t2v.text"] = torch.stack([torch.stack([a.norm_k(a.to_k(text)), a.to_v(text)])
                                       for a in attentions])
        blocks = []
        hooks = [block.register_forward_hook(lambda _, x, y: blocks.append(y))
                 for block in model.blocks]
        run(TIMESTEPS[1])
        for hook in hooks:
            hook.remove()
        out["t2v.blocks"] = torch.cat(blocks)
        half = in_bfloat16(model)
        out["t2v.bf16_error"] = error(velocities(half), out["t2v.velocities"])
        scales = input_scales(model, lambda: velocities(model))
        for quantizable in (model, half):
            quantize(quantizable, scales)
        out |= {f"fp8.{layer}.input_scale": scale for layer, scale in scales.items()}
        out["fp8.velocities"] = velocities(model)
        out["fp8.bf16_error"] = error(velocities(half), out["fp8.velocities"])
    (HERE / "wan").mkdir(exist_ok=True)
    save_file({k: v.contiguous().clone() for k, v in out.items()},
              HERE / "wan" / "transformer.safetensors",
              {"made_by": "make_micro_wan.py", "torch": torch.__version__,
               "diffusers": diffusers.__version__})


if __name__ == "__main__":
    main()
