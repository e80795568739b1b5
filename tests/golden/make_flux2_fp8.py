#!/usr/bin/env python3
"""ModelOpt's FP8 export of a micro FLUX.2 (modelopt/flux2-micro/hf), run in float32 by diffusers.

Every quantized linear layer multiplies the export's own codes by its weight_scale, its input goes
through E4M3 with its input_scale: what an FP8 runtime computes, up to the order of summation.
Writes flux2/fp8.safetensors beside this script.

    pip install torch==2.15.0 diffusers==0.42.1
    python make_flux2_fp8.py
"""
import pathlib

import diffusers
import torch
from diffusers import Flux2Transformer2DModel
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
MICRO = HERE / "modelopt" / "flux2-micro"


def quantized(x, scale):
    codes = (x * (1 / scale)).clamp(-448, 448).to(torch.float8_e4m3fn)
    return codes.float() * scale


@torch.no_grad()
def main():
    export = load_file(MICRO / "hf" / "diffusion_pytorch_model.safetensors")
    model = Flux2Transformer2DModel.from_pretrained(MICRO / "base", torch_dtype=torch.float32)
    for name, layer in model.eval().named_modules():
        if f"{name}.weight_scale" not in export:
            continue
        layer.weight.data = export[f"{name}.weight"].float() * export[f"{name}.weight_scale"].float()
        scale = export[f"{name}.input_scale"].float()
        layer.register_forward_pre_hook(lambda _, x, scale=scale: (quantized(x[0], scale), *x[1:]))
    reference = load_file(MICRO / "reference.safetensors")
    inputs = {k.removeprefix("input."): v for k, v in reference.items() if k.startswith("input.")}
    save_file({"output": model(**inputs, return_dict=False)[0].contiguous()},
              HERE / "flux2" / "fp8.safetensors",
              {"made_by": "make_flux2_fp8.py", "torch": torch.__version__,
               "diffusers": diffusers.__version__})


if __name__ == "__main__":
    main()
