#!/usr/bin/env python3
"""Checkpoints of micro transformers, quantized and exported by NVIDIA ModelOpt on the CPU.

Writes modelopt/<model>/ beside this script, for each of flux1-micro, flux2-micro and wan-micro:

    base/            the bfloat16 transformer, as diffusers saves it
    hf/              export_hf_checkpoint: FP8 weights, scales, quantization_config
    transformer.pt   mto.save: modelopt_state and model_state_dict
    reference.safetensors
        input.*                     arguments of one call
        output_{f32,bf16}           before quantization, in that precision
        fakequant_output_*          with all of ModelOpt's quantizers
        fakequant_linear_output_*   with those of Linear layers only: what hf/ holds

and flux1-micro-nvfp4/{hf,transformer.pt} from flux1-micro's base. Quantization follows ModelOpt's
diffusers example: per-tensor E4M3 weights and inputs, max calibration, then the model's filter.
modelopt/versions.json records versions and seeds.

    python make_modelopt.py [model ...]
"""
import copy
import json
import pathlib
import re
import shutil
import sys

import diffusers
import modelopt
import modelopt.torch.opt as mto
import modelopt.torch.quantization as mtq
import safetensors
import torch
from diffusers import FluxTransformer2DModel, Flux2Transformer2DModel, WanTransformer3DModel
from modelopt.torch.export import export_hf_checkpoint
from safetensors.torch import save_file

SEED = 20240901
CALIBRATION_CALLS = 4
OUT = pathlib.Path(__file__).resolve().parent / "modelopt"

E4M3 = {"num_bits": (4, 3), "axis": None}
E2M1 = {"num_bits": (2, 1), "axis": None,
        "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}}

# Layers that stay in 16 bits, by a match at the start of the name.
FLUX_FILTER = re.compile(r"(proj_out.*|.*(time_text_embed|context_embedder|x_embedder|norm_out"
                         r"|time_guidance_embed|stream_modulation).*)")
WAN_FILTER = re.compile(r".*(patch_embedding|condition_embedder|proj_out"
                        r"|blocks\.(0|1|2|37|38|39)\.).*")


def config(numbers):
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False},
                          {"quantizer_name": "*weight_quantizer", "cfg": numbers},
                          {"quantizer_name": "*input_quantizer", "cfg": numbers}],
            "algorithm": "max"}


def ids(rows, cols, axes):
    grid = torch.zeros(rows, cols, axes)
    grid[..., 1] = torch.arange(rows)[:, None]
    grid[..., 2] = torch.arange(cols)[None, :]
    return grid.reshape(rows * cols, axes)


def flux1():
    model = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=24,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=16,
        guidance_embeds=True, axes_dims_rope=(4, 8, 12))

    def arguments():
        return {"hidden_states": torch.randn(1, 12, 16),
                "encoder_hidden_states": torch.randn(1, 5, 32),
                "pooled_projections": torch.randn(1, 16), "timestep": torch.rand(1),
                "guidance": torch.tensor([3.5]), "img_ids": ids(3, 4, 3),
                "txt_ids": torch.zeros(5, 3)}
    return model, arguments, FLUX_FILTER


def flux2():
    model = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=24,
        num_attention_heads=2, joint_attention_dim=32, timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 8, 8))

    def arguments():
        text = torch.zeros(5, 4)
        text[:, 3] = torch.arange(5)
        return {"hidden_states": torch.randn(1, 12, 16),
                "encoder_hidden_states": torch.randn(1, 5, 32), "timestep": torch.rand(1),
                "guidance": torch.tensor([4.0]), "img_ids": ids(3, 4, 4), "txt_ids": text}
    return model, arguments, FLUX_FILTER


def wan():
    """Five blocks: the filter keeps 0 to 2 in 16 bits."""
    model = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=24, in_channels=4, out_channels=4, text_dim=32,
        freq_dim=32, ffn_dim=96, num_layers=5)

    def arguments():
        return {"hidden_states": torch.randn(1, 4, 2, 4, 6),
                "timestep": torch.randint(0, 1000, (1,)),
                "encoder_hidden_states": torch.randn(1, 5, 32)}
    return model, arguments, WAN_FILTER


MODELS = {"flux1-micro": flux1, "flux2-micro": flux2, "wan-micro": wan}


def randomize(model):
    """Weights of a trained network's size, exact in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() >= 2 and not name.endswith("scale_shift_table"):
            value = noise / parameter[0].numel() ** 0.5
        else:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise
        parameter.data = value
    return model.bfloat16().eval()


def cast(arguments, dtype):
    return {k: v if v.dtype == torch.int64 else v.to(dtype) for k, v in arguments.items()}


def call(model, arguments, dtype):
    """The output in `dtype`. A copy runs: the model keeps its bfloat16 weights and amax."""
    return copy.deepcopy(model).to(dtype)(**cast(arguments, dtype), return_dict=False)[0]


def outputs(prefix, model, arguments):
    return {f"{prefix}output_bf16": call(model, arguments, torch.bfloat16),
            f"{prefix}output_f32": call(model, arguments, torch.float32)}


def disable_outside_linear(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            continue
        for name, child in module.named_children():
            if name.endswith("_quantizer") and child.is_enabled:
                child.disable()


def quantize(model, arguments, layer_filter, numbers):
    calls = [arguments() for _ in range(CALIBRATION_CALLS)]

    def forward_loop(calibrated):
        for one in calls:
            calibrated(**cast(one, torch.bfloat16))
    mtq.quantize(model, config(numbers), forward_loop)
    mtq.disable_quantizer(model, lambda name: layer_filter.match(name) is not None)


def make(name):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    model, arguments, layer_filter = MODELS[name]()
    randomize(model)
    model.save_pretrained(folder / "base")
    inputs = arguments()
    reference = {f"input.{k}": v for k, v in inputs.items()} | outputs("", model, inputs)

    quantize(model, arguments, layer_filter, E4M3)
    mto.save(model, folder / "transformer.pt")
    reference |= outputs("fakequant_", model, inputs)
    linear_only = copy.deepcopy(model)
    disable_outside_linear(linear_only)
    reference |= outputs("fakequant_linear_", linear_only, inputs)
    save_file({k: v.contiguous() for k, v in reference.items()}, folder / "reference.safetensors")
    export_hf_checkpoint(model, export_dir=folder / "hf")


def make_nvfp4(name):
    """Without fake-quant outputs: ModelOpt's FP4 arithmetic needs a GPU, its export does not."""
    folder = OUT / f"{name}-nvfp4"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    model, arguments, layer_filter = MODELS[name]()
    randomize(model)
    quantize(model, arguments, layer_filter, E2M1)
    mto.save(model, folder / "transformer.pt")
    export_hf_checkpoint(model, export_dir=folder / "hf")


@torch.no_grad()
def main():
    chosen = sys.argv[1:] or [*MODELS, "flux1-micro-nvfp4"]
    for name in chosen:
        if name.endswith("-nvfp4"):
            make_nvfp4(name.removesuffix("-nvfp4"))
        else:
            make(name)
    versions = {"seed": SEED, "calibration_calls": CALIBRATION_CALLS,
                "python": sys.version.split()[0]}
    for module in (torch, diffusers, modelopt, safetensors):
        versions[module.__name__] = module.__version__
    (OUT / "versions.json").write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
