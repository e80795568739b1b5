#!/usr/bin/env python3
"""Tiny, randomly initialised FLUX.2 pipelines and what diffusers makes of them, in float32.

Writes flux2/dev and flux2/klein beside this script, model folders as diffusers saves them (weights
in bfloat16, which the reference runs in float32), and flux2/micro.safetensors with the reference's
tensors: README.md lists them. Library versions and the seed are in that file's metadata.

    pip install torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 accelerate
    python make_micro_flux2.py
"""
import json
import pathlib
import shutil

import diffusers
import torch
import transformers
from diffusers import (AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline,
                       Flux2Pipeline, Flux2Transformer2DModel)
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (Mistral3Config, Mistral3ForConditionalGeneration, MistralConfig,
                          PixtralVisionConfig, PreTrainedTokenizerFast, Qwen3Config,
                          Qwen3ForCausalLM)

SEED = 20261126
HERE = pathlib.Path(__file__).resolve().parent / "flux2"
PROMPT = "A red fox, 3 apples & a café in the snow"
LENGTH = 256  # max_sequence_length
WIDTH, HEIGHT, STEPS = 64, 48, 3

# The pre-tokenizers of the published models (Mistral-Small-3's tokenizer.json, Qwen3's).
MISTRAL_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                 r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN_SPLIT = MISTRAL_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")
# What the tiny vocabularies are trained on.
CORPUS = [
    "a photo of a red fox in the snow at sunset, highly detailed",
    "an oil painting of three apples on a wooden table beside the window",
    "the quick brown fox jumps over the lazy dog; the dog does not mind",
    "You describe images. You give structured answers about objects and attributes.",
    "user assistant think image description without speculation",
    "un café à Paris sous la pluie, une rivière, des étoiles",
    "ein rotes Haus am See, Gebäude im Morgennebel",
]


def train(split, normalizer, first, last):
    """A byte-level BPE with special tokens before (`first`) or behind (`last`) the others."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=bool(first)))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=256 + len(first) + 150, special_tokens=first, initial_alphabet=alphabet,
        show_progress=False))
    tokenizer.add_special_tokens(last)
    return tokenizer


def mistral_tokenizer():
    first = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "<pad>", "[SYSTEM_PROMPT]",
             "[/SYSTEM_PROMPT]"]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=train(MISTRAL_SPLIT, None, first, []), bos_token="<s>", eos_token="</s>",
        unk_token="<unk>", pad_token="<pad>", padding_side="left", model_max_length=1024)
    fast.chat_template = (
        "{{ bos_token }}{% for m in messages %}{% set text = m['content'][0]['text'] %}"
        "{% if m['role'] == 'system' %}[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]"
        "{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}")
    return fast


def qwen_tokenizer():
    last = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=train(QWEN_SPLIT, normalizers.NFC(), [], last), eos_token="<|im_end|>",
        pad_token="<|endoftext|>", padding_side="right", model_max_length=1024)
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}")
    return fast


def randomize(model):
    """Weights that let every term matter, exactly representable in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() >= 2 and "embed_tokens" not in name:
            value = noise / parameter[0].numel() ** 0.5
        elif parameter.dim() >= 2:
            value = noise
        elif name.endswith("weight"):
            value = 1 + 0.2 * noise
        else:
            value = 0.1 * noise
        parameter.data = value.bfloat16().float()
    return model.float().eval()


def language_sizes(vocab, layers):
    return dict(vocab_size=vocab, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
                num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                max_position_embeddings=1024)


def transformer(joint, guidance, layers, single_layers):
    return randomize(Flux2Transformer2DModel(
        in_channels=16, num_layers=layers, num_single_layers=single_layers, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=joint, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance))


def vae(**options):
    model = randomize(AutoencoderKLFlux2(
        block_out_channels=(8, 16, 16, 16), layers_per_block=1, norm_num_groups=8,
        latent_channels=4, sample_size=64, **options))
    model.bn.running_mean.copy_((0.5 * torch.randn(16)).bfloat16())
    model.bn.running_var.copy_((0.5 + 2 * torch.rand(16)).bfloat16())
    return model


def scheduler():
    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def dev():
    tokenizer = mistral_tokenizer()
    config = Mistral3Config(
        text_config=MistralConfig(**language_sizes(len(tokenizer), 31), rms_norm_eps=1e-5,
                                  rope_parameters={"rope_type": "default", "rope_theta": 1e9},
                                  sliding_window=None, tie_word_embeddings=False).to_dict(),
        vision_config=PixtralVisionConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                          num_attention_heads=1, head_dim=8, image_size=28,
                                          patch_size=14).to_dict(), image_token_index=5)
    encoder = randomize(Mistral3ForConditionalGeneration(config))
    return Flux2Pipeline(scheduler=scheduler(), vae=vae(), text_encoder=encoder,
                         tokenizer=tokenizer, transformer=transformer(48, True, 2, 2))


def klein(distilled):
    tokenizer = qwen_tokenizer()
    encoder = randomize(Qwen3ForCausalLM(Qwen3Config(
        **language_sizes(len(tokenizer), 28), rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, tie_word_embeddings=True)))
    return Flux2KleinPipeline(scheduler=scheduler(), vae=vae(), text_encoder=encoder,
                              tokenizer=tokenizer, transformer=transformer(48, False, 1, 3),
                              is_distilled=distilled)


def token_ids(pipe, prompt, length):
    """The ids that the text encoder is given."""
    seen = []
    hook = pipe.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True)
    pipe.encode_prompt(prompt, max_sequence_length=length)
    hook.remove()
    return seen[0].int()


def modulations(pipe, timesteps, guidance):
    """[N, 1, 17 D]: image, text, single blocks, output."""
    model = pipe.transformer
    temb = model.time_guidance_embed(
        timesteps, None if guidance is None else torch.full_like(timesteps, 1000 * guidance))
    out = model.norm_out.linear(model.norm_out.silu(temb))
    parts = [model.double_stream_modulation_img(temb), model.double_stream_modulation_txt(temb),
             model.single_stream_modulation(temb), out]
    return torch.cat(parts, dim=-1)[:, None]


def run(out, name, pipe, **options):
    """A trajectory from the noise of a CPU generator, and its picture."""
    latents, velocities, vae_inputs = [], [], []
    keep = lambda module, args, result: velocities.append(result[0])
    hook = pipe.transformer.register_forward_hook(keep)
    decode = pipe.vae.decode
    pipe.vae.decode = lambda z, **kwargs: (vae_inputs.append(z), decode(z, **kwargs))[1]
    seen = lambda p, i, t, kwargs: (latents.append(kwargs["latents"]), {})[1]
    decoded = pipe(prompt=PROMPT, num_inference_steps=STEPS, max_sequence_length=LENGTH,
                   generator=torch.Generator("cpu").manual_seed(7), output_type="pt",
                   callback_on_step_end=seen, return_dict=False, **options)[0]
    hook.remove()
    pipe.vae.decode = decode
    out |= {f"{name}.latents": torch.cat(latents), f"{name}.velocities": torch.cat(velocities),
            f"{name}.vae_input": vae_inputs[0], f"{name}.decoded": decode(vae_inputs[0]).sample,
            f"{name}.picture": (decoded[0].permute(1, 2, 0) * 255).round().to(torch.uint8)}


def common(out, name, pipe, guidance):
    embeds, _ = pipe.encode_prompt(PROMPT, max_sequence_length=LENGTH)
    timesteps = pipe.scheduler.timesteps
    noise = torch.randn((1, 16, HEIGHT // 16, WIDTH // 16),
                        generator=torch.Generator("cpu").manual_seed(7))
    out |= {f"{name}.ids": token_ids(pipe, PROMPT, LENGTH),
            f"{name}.ids_cut": token_ids(pipe, PROMPT * 20, LENGTH),
            f"{name}.prompt_embeds": embeds, f"{name}.timesteps": timesteps,
            f"{name}.sigmas": pipe.scheduler.sigmas,
            f"{name}.initial_latents": noise.permute(0, 2, 3, 1).reshape(1, -1, 16),
            f"{name}.modulations": modulations(pipe, timesteps, guidance)}


def save(pipe, name, tokenizer_class):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    for component in (pipe.transformer, pipe.text_encoder, pipe.vae):
        component.to(torch.bfloat16)
    pipe.save_pretrained(folder)
    for leftover in [*folder.rglob("chat_template.jinja"), *folder.rglob("generation_config.json")]:
        leftover.unlink()
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", tokenizer_class]  # as the published folders say
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    (folder / "dither.json").write_text(json.dumps(
        {"width": WIDTH, "height": HEIGHT, "num_inference_steps": STEPS,
         "max_sequence_length": LENGTH, "example_prompts": [PROMPT]}, ensure_ascii=False) + "\n")


def references():
    """Two pictures of different sizes."""
    for rows, cols in ((64, 80), (96, 64)):
        yield torch.randint(0, 256, (rows, cols, 3), dtype=torch.uint8)


def small_decoder(out):
    """An autoencoder whose decoder is narrower than its encoder."""
    model = vae(decoder_block_out_channels=(8, 8, 8, 16))
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            out[f"small_decoder.weights.{key}"] = value.bfloat16()
    z = torch.randn(1, 4, 4, 6)
    out |= {"small_decoder.z": z, "small_decoder.decoded": model.decode(z).sample}


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    out = {}
    size = {"width": WIDTH, "height": HEIGHT}
    pipe = dev()
    run(out, "dev", pipe, guidance_scale=4.0, **size)
    common(out, "dev", pipe, 4.0)
    pictures = list(references())
    out |= {f"edit.reference{i}": picture for i, picture in enumerate(pictures)}
    run(out, "edit", pipe, guidance_scale=4.0,
        image=[Image.fromarray(picture.numpy()) for picture in pictures], **size)
    save(pipe, "dev", "PixtralProcessor")

    pipe = klein(distilled=True)
    run(out, "klein", pipe, guidance_scale=1.0, **size)
    common(out, "klein", pipe, None)
    pipe.register_to_config(is_distilled=False)
    run(out, "base", pipe, guidance_scale=3.0, **size)
    out["base.negative_embeds"], _ = pipe.encode_prompt("", max_sequence_length=LENGTH)
    pipe.register_to_config(is_distilled=True)
    save(pipe, "klein", "Qwen2TokenizerFast")
    small_decoder(out)
    metadata = {"made_by": "make_micro_flux2.py", "seed": str(SEED), "torch": torch.__version__,
                "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    save_file({k: v.contiguous().clone() for k, v in out.items()}, HERE / "micro.safetensors",
              metadata)


if __name__ == "__main__":
    main()
