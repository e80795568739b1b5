#!/usr/bin/env python3
"""Tiny, randomly initialised Wan autoencoders and what diffusers makes of them, in float32.

Writes wan/vae.safetensors beside this script: weights (in bfloat16, which the reference runs in
float32), inputs and outputs under "wan21." and "wan22."; README.md lists them. Library versions and
the seed are in the file's metadata.

    pip install torch==2.15.0 diffusers==0.42.1
    python make_micro_wan_vae.py
"""
import pathlib

import diffusers
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from safetensors.torch import save_file

SEED = 20261204
HERE = pathlib.Path(__file__).resolve().parent / "wan"
FRAMES, WIDTH, HEIGHT = 13, 32, 32


def randomize(model):
    """Weights that let every term matter, exactly representable in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if name.endswith("gamma"):
            value = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.1 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
        parameter.data = value.bfloat16().float()
    return model.float().eval()


def autoencoder(z_dim, **options):
    mean = [round(0.3 * (i - 1.5), 4) for i in range(z_dim)]
    std = [round(0.5 + 0.4 * i, 4) for i in range(z_dim)]
    return randomize(AutoencoderKLWan(z_dim=z_dim, num_res_blocks=1, latents_mean=mean,
                                      latents_std=std, **options))


def ndhwc(x):
    return x.permute(0, 2, 3, 4, 1).contiguous()


def decoded(model, z):
    """What the decoder makes of z before it is clamped."""
    chunks = []
    hook = model.decoder.register_forward_hook(lambda module, args, result: chunks.append(result))
    clamped = model.decode(z).sample
    hook.remove()
    frames = unpatchify(torch.cat(chunks, 2), model.config.patch_size or 1)
    assert torch.equal(frames.clamp(-1, 1), clamped)
    return frames


def add(out, name, model, video):
    factor = model.config.scale_factor_spatial
    mean = torch.tensor(model.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(model.config.latents_std).view(1, -1, 1, 1, 1)
    latents = torch.randn(1, model.config.z_dim, (FRAMES - 1) // 4 + 1, HEIGHT // factor,
                          WIDTH // factor)
    encoded = (model.encode(video).latent_dist.mean - mean) / std
    out |= {f"{name}.latents": ndhwc(latents),
            f"{name}.decoded": ndhwc(decoded(model, latents * std + mean)),
            f"{name}.encoded": ndhwc(encoded)}
    for key, value in model.state_dict().items():
        out[f"{name}.vae.{key}"] = value.to(torch.bfloat16)


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    video = (torch.rand(1, 3, FRAMES, HEIGHT, WIDTH) * 2 - 1).bfloat16()
    out = {"video": ndhwc(video)}
    add(out, "wan21", autoencoder(4, base_dim=4, dim_mult=[1, 2, 3, 3]), video.float())
    add(out, "wan22", autoencoder(6, base_dim=2, decoder_base_dim=4, is_residual=True,
                                  in_channels=12, out_channels=12, patch_size=2,
                                  scale_factor_spatial=16), video.float())
    HERE.mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in out.items()}, HERE / "vae.safetensors",
              metadata={"torch": torch.__version__, "diffusers": diffusers.__version__,
                        "seed": str(SEED)})


if __name__ == "__main__":
    main()
