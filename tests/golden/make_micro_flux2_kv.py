#!/usr/bin/env python3
"""What diffusers' Flux2KleinKVPipeline makes of the tiny klein, in float32, with the two reference
pictures of make_micro_flux2.py and with the first of them.

Writes flux2/klein_kv.safetensors beside this script: README.md lists its tensors.

    pip install torch==2.15.0 diffusers==0.42.1 transformers==5.24.0 accelerate
    python make_micro_flux2_kv.py
"""
import pathlib

import diffusers
import torch
import transformers
from diffusers import (AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinKVPipeline,
                       Flux2Transformer2DModel)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Qwen3ForCausalLM

from make_micro_flux2 import HEIGHT, HERE, LENGTH, PROMPT, WIDTH, qwen_tokenizer, run, token_ids


@torch.no_grad()
def main():
    def load(kind, name):
        return kind.from_pretrained(HERE / "klein", subfolder=name, torch_dtype=torch.float32)

    pipe = Flux2KleinKVPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler.from_pretrained(HERE / "klein",
                                                                  subfolder="scheduler"),
        vae=load(AutoencoderKLFlux2, "vae"), text_encoder=load(Qwen3ForCausalLM, "text_encoder"),
        tokenizer=qwen_tokenizer(), transformer=load(Flux2Transformer2DModel, "transformer"),
        is_distilled=True)
    micro = load_file(HERE / "micro.safetensors")
    assert torch.equal(token_ids(pipe, PROMPT, LENGTH), micro["klein.ids"])
    pictures = [Image.fromarray(micro[f"edit.reference{i}"].numpy()) for i in range(2)]
    made = {}
    run(made, "two", pipe, image=pictures, width=WIDTH, height=HEIGHT)
    run(made, "one", pipe, image=pictures[:1], width=WIDTH, height=HEIGHT)
    out = {f"{name}.{what}": made[f"{name}.{what}"].contiguous().clone()
           for name in ("one", "two") for what in ("latents", "picture")}
    metadata = {"made_by": "make_micro_flux2_kv.py", "torch": torch.__version__,
                "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    save_file(out, HERE / "klein_kv.safetensors", metadata)


if __name__ == "__main__":
    main()
