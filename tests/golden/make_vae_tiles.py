#!/usr/bin/env python3
"""What diffusers' autoencoders decode and encode in overlapping tiles, in float32.

Writes vae_tiles.safetensors beside this script, channels last: of what is decoded every 41st element,
of what is encoded all.
Latents and videos are seeded.py's, of the names and shapes below; Wan's weights are those of
wan/vae.safetensors, the other autoencoder's are seeded.py's. Library versions are in the file's
metadata.

    pip install torch==2.15.0 diffusers==0.42.1
    python make_vae_tiles.py
"""
import pathlib
from unittest import mock

import diffusers
import torch
from diffusers import AutoencoderKL, AutoencoderKLWan
from safetensors.torch import load_file, save_file

import seeded

HERE = pathlib.Path(__file__).resolve().parent
EVERY = 41


def wan_model(name, z_dim, tile, stride, **options):
    """The autoencoder, and its latents' mean and deviation."""
    mean = [round(0.3 * (i - 1.5), 4) for i in range(z_dim)]
    std = [round(0.5 + 0.4 * i, 4) for i in range(z_dim)]
    model = AutoencoderKLWan(z_dim=z_dim, num_res_blocks=1, latents_mean=mean, latents_std=std,
                             **options).eval()
    prefix = f"{name}.vae."
    weights = load_file(HERE / "wan/vae.safetensors")
    model.load_state_dict({key[len(prefix):]: value.float() for key, value in weights.items()
                           if key.startswith(prefix)})
    model.enable_tiling(tile, tile, stride, stride)
    return model, torch.tensor(mean), torch.tensor(std)


def decoded(name, shape, z_dim, **options):
    """Frames before they are clamped."""
    model, mean, std = wan_model(name, z_dim, **options)
    latents = seeded.seeded(f"{name}.latents", (1, *shape, z_dim))
    with mock.patch.object(torch, "clamp", lambda x, **_: x):
        z = (latents * std + mean).permute(0, 4, 1, 2, 3)
        return model.decode(z).sample.permute(0, 2, 3, 4, 1)


def encoded(name, shape, z_dim, **options):
    """Means, normalised."""
    model, mean, std = wan_model(name, z_dim, **options)
    video = seeded.seeded(f"{name}.video", (1, *shape, 3)).permute(0, 4, 1, 2, 3)
    return (model.encode(video).latent_dist.mode().permute(0, 2, 3, 4, 1) - mean) / std


def picture():
    model = AutoencoderKL(
        block_out_channels=(8, 16, 16, 24), layers_per_block=1, norm_num_groups=8,
        latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, sample_size=32)
    seeded.fill(model, "kl.")
    model.enable_tiling()
    latents = seeded.seeded("kl.latents", (1, 7, 11, 4))
    return model.decode(latents.permute(0, 3, 1, 2)).sample.permute(0, 2, 3, 1)


@torch.no_grad()
def main():
    wan21 = dict(z_dim=4, tile=32, stride=24, base_dim=4, dim_mult=[1, 2, 3, 3])
    wan22 = dict(z_dim=6, tile=32, stride=16, base_dim=2, decoder_base_dim=4, is_residual=True,
                 in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=16)
    out = {"wan21": decoded("wan21", (2, 5, 7), **wan21),
           "wan22": decoded("wan22", (2, 3, 4), **wan22),
           "wan21.encoded": encoded("wan21", (5, 40, 56), **wan21),
           "wan22.encoded": encoded("wan22", (5, 96, 128), **wan22),
           "kl": picture()}
    for name, value in out.items():
        print(name, tuple(value.shape), value.abs().max())
    every = {key: 1 if key.endswith(".encoded") else EVERY for key in out}
    save_file({key: value.flatten()[::every[key]].contiguous() for key, value in out.items()},
              HERE / "vae_tiles.safetensors",
              metadata={"torch": torch.__version__, "diffusers": diffusers.__version__})


if __name__ == "__main__":
    main()
