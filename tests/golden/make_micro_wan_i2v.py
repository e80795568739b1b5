#!/usr/bin/env python3
"""What diffusers' WanImageToVideoPipeline makes of tiny models that begin with a picture, in float32.

The models are those of wan/pipeline and wan/vae.safetensors with a few layers of other widths, so
that only these lie in wan/i2v.safetensors beside this script (in bfloat16):
  i2v     both experts of wan/pipeline with 12 channels in (4 latents, 4 of the mask, 4 of the
          picture's latents): i2v.transformer.*, i2v.transformer_2.*
  ti2v    its first expert with 6 channels in and out, and the autoencoder "wan22":
          ti2v.transformer.*; expand_timesteps
and of each what it makes:
  <case>.picture     uint8 [height, width, 3]: of another size than i2v's video, of ti2v's size
  <case>.condition   float32: packed like latents, [1, tokens, 4 x 8] the mask and the picture's
                     latents beside it (i2v), [1, tokens of a frame, 4 x 6] its latents (ti2v)
  <case>.latents     float32, after every step, [1, steps, tokens, 4 C]; packed as
                     make_micro_wan_pipeline.py says
  <case>.frames      uint8 [frames, height, width, 3]
Prompts are make_micro_wan_pipeline.py's. Library versions and the seed are in the metadata.

    pip install torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 accelerate
    python make_micro_wan_i2v.py
"""
import json

import diffusers
import numpy as np
import PIL.Image
import torch
import transformers
from diffusers import (AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline,
                       WanTransformer3DModel)
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, UMT5EncoderModel

from make_micro_wan_pipeline import FRAMES, HERE, NEGATIVE, PROMPT, STEPS, pack
from make_micro_wan_vae import autoencoder

SEED = 20261128
FOLDER = HERE / "pipeline"
CASES = {
    "i2v": dict(size=(48, 32), picture=(57, 23), shift=5.0, scales=(3.5, 3.0), negative=NEGATIVE,
                seed=7),
    "ti2v": dict(size=(64, 32), picture=(64, 32), shift=5.0, scales=(5.0, None), negative="",
                 seed=3),
}


def picture(width, height):
    """Smooth in two channels, noise in the third."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(SEED).integers(0, 256, (height, width))
    return np.stack([255 * x // width, 255 * y // height, noise], 2).astype(np.uint8)


def widened(component, changed, **channels):
    """An expert of wan/pipeline with other channels, and random weights where shapes differ."""
    source = FOLDER / component
    config = json.loads((source / "config.json").read_text()) | channels
    model = WanTransformer3DModel.from_config(config)
    weights = load_file(source / "diffusion_pytorch_model.safetensors")
    for name, parameter in model.named_parameters():
        if weights[name].shape != parameter.shape:
            noise = torch.randn(parameter.shape)
            fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
            weights[name] = changed[f"{component}.{name}"] = (noise / fan_in ** 0.5).bfloat16()
    model.load_state_dict(weights)
    return model.float().eval()


def wan22():
    vae = autoencoder(6, base_dim=2, decoder_base_dim=4, is_residual=True, in_channels=12,
                      out_channels=12, patch_size=2, scale_factor_spatial=16)
    prefix = "wan22.vae."
    stored = load_file(HERE / "vae.safetensors")
    vae.load_state_dict({name.removeprefix(prefix): value for name, value in stored.items()
                         if name.startswith(prefix)})
    return vae.float().eval()


def make_pipelines():
    """{case: (pipeline, the weights that wan/pipeline has not)}."""
    shared = dict(
        tokenizer=AutoTokenizer.from_pretrained(HERE / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(
            FOLDER / "text_encoder", torch_dtype=torch.float32).eval(),
        scheduler=UniPCMultistepScheduler.from_pretrained(FOLDER / "scheduler"))
    experts, single = {}, {}
    i2v = WanImageToVideoPipeline(
        **shared, vae=AutoencoderKLWan.from_pretrained(FOLDER / "vae", torch_dtype=torch.float32),
        transformer=widened("transformer", experts, in_channels=12),
        transformer_2=widened("transformer_2", experts, in_channels=12), boundary_ratio=0.9)
    ti2v = WanImageToVideoPipeline(
        **shared, vae=wan22(),
        transformer=widened("transformer", single, in_channels=6, out_channels=6),
        expand_timesteps=True)
    return {"i2v": (i2v, experts), "ti2v": (ti2v, single)}


def run_case(pipeline, case):
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=case["shift"])
    kept = {"picture": torch.from_numpy(picture(*case["picture"]))}
    prepare, steps = pipeline.prepare_latents, []

    def keep_condition(*args, **options):
        prepared = prepare(*args, **options)
        kept["condition"] = pack(prepared[1])
        return prepared

    def keep_latents(pipe, index, timestep, values):
        steps.append(pack(values["latents"]))
        return {}

    pipeline.prepare_latents = keep_condition
    (width, height), (first, second) = case["size"], case["scales"]
    video = pipeline(
        image=PIL.Image.fromarray(kept["picture"].numpy()), prompt=PROMPT,
        negative_prompt=case["negative"], height=height, width=width, num_frames=FRAMES,
        num_inference_steps=STEPS, guidance_scale=first, guidance_scale_2=second,
        generator=torch.Generator("cpu").manual_seed(case["seed"]), output_type="np",
        callback_on_step_end=keep_latents).frames[0]
    frames = torch.from_numpy(np.rint(video * 255).astype(np.uint8))
    return kept | {"latents": torch.stack(steps, 1), "frames": frames}


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    out = {}
    for name, (pipeline, changed) in make_pipelines().items():
        out |= {f"{name}.{key}": value for key, value in changed.items()}
        out |= {f"{name}.{key}": value for key, value in run_case(pipeline, CASES[name]).items()}
    out = {key: value.clone().contiguous() for key, value in out.items()}
    save_file(out, HERE / "i2v.safetensors",
              {"made_by": "make_micro_wan_i2v.py", "seed": str(SEED),
               "torch": torch.__version__, "diffusers": diffusers.__version__,
               "transformers": transformers.__version__})
    (HERE / "i2v.safetensors").chmod(0o644)
    for key, value in out.items():
        print(key, value.dtype, tuple(value.shape), float(value.float().abs().mean()))


if __name__ == "__main__":
    main()
