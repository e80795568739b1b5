#!/usr/bin/env python3
"""Reference outputs of tiny, randomly initialised models: what the demo model does not cover.

Writes micro.safetensors beside this script: for each model "<model>.weights.<name>" (bfloat16; the
reference runs them in float32), its inputs and its outputs. Library versions and the seed are in
the file's metadata. What is special about each model stands at its function.

    python make_micro.py --emoji-flux ../../models/emoji-flux
"""
import argparse
import pathlib

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file, save_file

SEED = 20240801
HERE = pathlib.Path(__file__).resolve().parent


def randomize(model):
    """Weights that let every term matter, exactly representable in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() >= 2 and "embedding" not in name and "shared" not in name:
            value = noise / parameter[0].numel() ** 0.5
        elif parameter.dim() >= 2:
            value = noise
        elif name.endswith("weight"):
            value = 1 + 0.2 * noise
        else:
            value = 0.1 * noise
        parameter.data = value.bfloat16().float()
    return model.float().eval()


def put_weights(out, name, state):
    for key, value in state.items():
        if value.is_floating_point():
            out[f"{name}.weights.{key}"] = value.bfloat16().contiguous().clone()


def image_ids(rows, cols):
    ids = torch.zeros(rows, cols, 3)
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(cols)[None, :]
    return ids.reshape(rows * cols, 3)


def flux(out, name, *, heads, head_dim, axes, guidance, layers, single_layers, rows, cols, batch,
         tokens, timesteps):
    model = randomize(FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=layers, num_single_layers=single_layers,
        attention_head_dim=head_dim, num_attention_heads=heads, joint_attention_dim=24,
        pooled_projection_dim=20, guidance_embeds=guidance, axes_dims_rope=axes))
    put_weights(out, name, model.state_dict())
    latents = torch.randn(batch, rows * cols, 16)
    prompt_embeds = torch.randn(batch, tokens, 24)
    pooled = torch.randn(batch, 20)
    velocities = [model(
        hidden_states=latents, encoder_hidden_states=prompt_embeds, pooled_projections=pooled,
        timestep=torch.full((batch,), t / 1000), img_ids=image_ids(rows, cols),
        txt_ids=torch.zeros(tokens, 3),
        guidance=torch.full((batch,), 3.5) if guidance else None).sample for t in timesteps]
    out |= {f"{name}.latents": latents, f"{name}.prompt_embeds": prompt_embeds,
            f"{name}.pooled_prompt_embeds": pooled,
            f"{name}.timesteps": torch.tensor(timesteps, dtype=torch.float32),
            f"{name}.velocities": torch.stack(velocities)}


def flux_schnell(out):
    """No guidance embedder, heads of 16 channels, a picture wider than high, two prompts."""
    flux(out, "flux_schnell", heads=2, head_dim=16, axes=(4, 4, 8), guidance=False, layers=2,
         single_layers=2, rows=3, cols=5, batch=2, tokens=7, timesteps=[1000.0, 750.0, 250.0])


def flux_true_cfg(out):
    """Distilled guidance and classifier-free guidance: sample 0 is the prompt's, 1 the negative
    prompt's; a picture higher than wide."""
    flux(out, "flux_true_cfg", heads=2, head_dim=24, axes=(4, 8, 12), guidance=True, layers=1,
         single_layers=1, rows=4, cols=2, batch=2, tokens=5, timesteps=[968.5, 31.25])
    positive, negative = out["flux_true_cfg.velocities"].unbind(1)
    out["flux_true_cfg.guided"] = negative + 4.0 * (positive - negative)


def clip(out):
    """eos_token_id is said: pooling takes its first position although larger ids follow. Names
    without the prefix "text_model."."""
    config = transformers.CLIPTextConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=20, eos_token_id=41, bos_token_id=40)
    model = randomize(transformers.CLIPTextModel(config))
    put_weights(out, "clip", {k.removeprefix("text_model."): v
                              for k, v in model.state_dict().items()})
    ids = torch.randint(42, 60, (2, 16))
    ids[:, 0] = 40
    ids[0, 5] = ids[0, 9] = ids[1, 15] = 41
    result = model(input_ids=ids)
    out |= {"clip.ids": ids.int(), "clip.last_hidden_state": result.last_hidden_state,
            "clip.pooled": result.pooler_output}


def t5(out):
    """Texts longer than relative_attention_max_distance, inner width other than d_model."""
    config = transformers.T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
        feed_forward_proj="gated-gelu", dropout_rate=0.0)
    model = randomize(transformers.T5EncoderModel(config))
    put_weights(out, "t5", {k: v for k, v in model.state_dict().items()
                            if k != "encoder.embed_tokens.weight"})
    ids = torch.randint(0, 50, (1, 300))
    out |= {"t5.ids": ids.int(), "t5.last_hidden_state": model(input_ids=ids).last_hidden_state}


def vae(out):
    """Two layers a block, both quant convolutions, non-square pictures. The decoder's attention
    carries the names of older checkpoints, as 1 x 1 convolutions."""
    model = randomize(AutoencoderKL(
        block_out_channels=(8, 16, 16, 24), layers_per_block=2, norm_num_groups=8,
        latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, use_quant_conv=True, use_post_quant_conv=True))
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith("decoder.mid_block.attentions."):
            for new_name, old_name in old.items():
                if f".{new_name}." in key:
                    key = key.replace(new_name, old_name)
                    value = value[:, :, None, None] if value.dim() == 2 else value
        state[key] = value
    put_weights(out, "vae", state)
    pixels = torch.rand(2, 3, 24, 40) * 2 - 1
    mean = model.encode(pixels).latent_dist.mean
    out |= {"vae.pixels": pixels, "vae.mean": mean, "vae.decoded": model.decode(mean).sample}


def emoji_vae(out, folder):
    """The demo model's encoder on its own picture, "decoded" of case 0 in golden_fp32_cuda."""
    model = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=torch.float32).eval()
    pixels = load_file(HERE / "golden_fp32_cuda.safetensors")["case0.decoded"]
    out["emoji_vae.mean"] = model.encode(pixels).latent_dist.mean


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emoji-flux", required=True, help="folder of the demo model")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    out = {}
    for make in (flux_schnell, flux_true_cfg, clip, t5, vae):
        make(out)
    emoji_vae(out, args.emoji_flux)
    metadata = {"made_by": "make_micro.py", "seed": str(SEED), "torch": torch.__version__,
                "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    save_file({k: v.contiguous() for k, v in out.items()}, HERE / "micro.safetensors", metadata)


if __name__ == "__main__":
    main()
