#!/usr/bin/env python3
"""A tiny, randomly initialised Wan pipeline with two experts, and what diffusers makes of it.

Writes wan/pipeline beside this script, a model folder as diffusers saves it (weights in bfloat16,
which the reference runs in float32) with a dither.json of small defaults, and
wan/pipeline.safetensors, all float32 but for "frames":
  prompt_embeds, negative_embeds   of PROMPT and of NEGATIVE, [1, 512, 32]
  velocity_high, velocity_low      of either expert for the noise and the prompt, at timesteps 999
                                   and 500, packed as below
  <case>.initial_latents           the noise, [1, tokens, 16], packed: channel c of latent (dy, dx)
                                   of a token's 2 x 2 lies at (2 dy + dx) C + c
  <case>.latents                   after every step, [1, steps, tokens, 16]
  <case>.timesteps, <case>.sigmas
  <case>.frames                    uint8 [frames, height, width, 3]
  guided.decoded                   the same of case "guided" before it is rounded, in -1..1
Cases: "guided" (shift 12, guidance 4 and 3, a negative prompt), "plain" (shift 3, no guidance,
seed 1) and "single" (the first expert alone, shift 5, guidance 5, an empty negative prompt).
Library versions and the seed are in the file's metadata.

    pip install torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 accelerate
    python make_micro_wan_pipeline.py
"""
import json
import pathlib
import shutil

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline,
                       WanTransformer3DModel)
from safetensors.torch import save_file
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

SEED = 20261127
HERE = pathlib.Path(__file__).resolve().parent / "wan"
PROMPT = "A red fox  runs &amp; jumps over the snow"
NEGATIVE = "blurry, static"
WIDTH, HEIGHT, FRAMES, STEPS = 48, 32, 9, 6
CASES = {
    "guided": dict(shift=12.0, scales=(4.0, 3.0), negative=NEGATIVE, seed=7, two=True),
    "plain": dict(shift=3.0, scales=(1.0, 1.0), negative=None, seed=1, two=True),
    "single": dict(shift=5.0, scales=(5.0, None), negative="", seed=7, two=False),
}


def randomize(model):
    """Weights that let every term matter, exactly representable in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if name.endswith("gamma") or (parameter.dim() == 1 and name.endswith("weight")):
            value = 1 + 0.2 * noise
        elif "relative_attention_bias" in name or name == "shared.weight":
            value = noise
        elif parameter.dim() == 1:
            value = 0.1 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
        parameter.data = value.bfloat16().float()
    return model.float().eval()


def expert():
    return randomize(WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=16, in_channels=4,
        out_channels=4, text_dim=32, freq_dim=32, ffn_dim=64, num_layers=2))


def make_pipeline():
    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(HERE / "tokenizer")
    text_encoder = randomize(UMT5EncoderModel(UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        dropout_rate=0.0)))
    vae = randomize(AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, attn_scales=[],
        temperal_downsample=[False, True, True], latents_mean=[-0.5, 0.25, 0.125, -0.25],
        latents_std=[1.5, 0.75, 1.25, 2.0]))
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000,
        flow_shift=3.0)
    return WanPipeline(tokenizer=tokenizer, text_encoder=text_encoder, vae=vae,
                       scheduler=scheduler, transformer=expert(), transformer_2=expert(),
                       boundary_ratio=0.875)


def save_folder(pipeline, folder):
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("text_encoder", "transformer", "transformer_2", "vae"):
        getattr(pipeline, name).bfloat16()
    pipeline.save_pretrained(folder)
    for name in ("text_encoder", "transformer", "transformer_2", "vae"):
        getattr(pipeline, name).float()
    # The tokenizer as it is published for UMT5, which transformers 5 would write differently.
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(HERE / "tokenizer", folder / "tokenizer")
    (folder / "dither.json").write_text(json.dumps(
        {"width": WIDTH, "height": HEIGHT, "num_frames": FRAMES, "fps": 8,
         "num_inference_steps": STEPS, "example_prompts": ["a red fox in the snow"]},
        indent=2) + "\n")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def pack(latents):
    """[1, C, F, 2 h, 2 w] -> [1, F h w, 4 C]."""
    _, c, f, h, w = latents.shape
    patches = latents.reshape(c, f, h // 2, 2, w // 2, 2).permute(1, 2, 4, 3, 5, 0)
    return patches.reshape(1, -1, 4 * c).contiguous()


def run_case(pipeline, case):
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=case["shift"])
    single = WanPipeline(**{**pipeline.components, "transformer_2": None}, boundary_ratio=None)
    chosen = pipeline if case["two"] else single
    first, second = case["scales"]
    shape = (1, 4, (FRAMES - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8)
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(case["seed"]))
    steps = []

    def keep(pipe, index, timestep, values):
        steps.append(pack(values["latents"]))
        return {}

    video = chosen(
        prompt=PROMPT, negative_prompt=case["negative"], height=HEIGHT, width=WIDTH,
        num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=first,
        guidance_scale_2=second, generator=torch.Generator("cpu").manual_seed(case["seed"]),
        output_type="np", callback_on_step_end=keep).frames[0]
    return {
        "initial_latents": pack(noise),
        "latents": torch.stack(steps, 1),
        "timesteps": chosen.scheduler.timesteps.float(),
        "sigmas": chosen.scheduler.sigmas.float(),
        "frames": torch.from_numpy(np.rint(video * 255).astype(np.uint8)),
    }, video, noise


@torch.no_grad()
def main():
    pipeline = make_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    positive, negative = pipeline.encode_prompt(PROMPT, NEGATIVE, max_sequence_length=512)
    out = {"prompt_embeds": positive, "negative_embeds": negative}
    for name, case in CASES.items():
        tensors, video, noise = run_case(pipeline, case)
        out |= {f"{name}.{key}": value for key, value in tensors.items()}
        if name == "guided":
            out["guided.decoded"] = torch.from_numpy(video * 2 - 1).float()
            for key, model, t in (("high", pipeline.transformer, 999),
                                  ("low", pipeline.transformer_2, 500)):
                velocity = model(hidden_states=noise, timestep=torch.tensor([t]),
                                 encoder_hidden_states=positive, return_dict=False)[0]
                out[f"velocity_{key}"] = pack(velocity)
    out = {key: value.clone().contiguous() for key, value in out.items()}
    save_file(out, HERE / "pipeline.safetensors",
              {"made_by": "make_micro_wan_pipeline.py", "seed": str(SEED),
               "torch": torch.__version__, "diffusers": diffusers.__version__,
               "transformers": transformers.__version__})
    (HERE / "pipeline.safetensors").chmod(0o644)
    save_folder(pipeline, HERE / "pipeline")
    for key, value in out.items():
        print(key, tuple(value.shape), float(value.float().abs().mean()))


if __name__ == "__main__":
    main()
