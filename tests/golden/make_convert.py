#!/usr/bin/env python3
"""What SGLang's own converter makes of ModelOpt's FP8 exports.

Runs `build_modelopt_fp8_transformer` out of an sglang wheel, untouched, and writes beside itself

    convert/<case>/{hf,base,backbone.pt}   inputs made here (the others lie in modelopt/)
    convert/convert.json                   versions; per case the options, counts, index, ignore,
                                           and of every tensor dtype, shape and FNV-1a of its bytes

    pip download --no-deps sglang==0.5.23
    python make_convert.py sglang-0.5.23-*.whl
"""
import ast
import json
import pathlib
import shutil
import sys
import tempfile
import types
import zipfile

import safetensors
import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "convert"
BF16, F16, F32, F8 = torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn


def load_converter(wheel):
    """The converter's function. Of the runtime around it, it uses one helper."""
    with zipfile.ZipFile(wheel) as archive:
        def text(name):
            return archive.read(f"sglang/multimodal_gen/{name}.py").decode()
        helper = next(node for node in ast.parse(text("runtime/utils/quantization_utils")).body
                      if getattr(node, "name", "") == "normalize_flat_modelopt_quant_config")
        sources = {"runtime.utils.quantization_utils":
                       "from __future__ import annotations\n" + ast.unparse(helper),
                   "tools.modelopt_checkpoint": text("tools/modelopt_checkpoint"),
                   "tools.build_modelopt_fp8_transformer":
                       text("tools/build_modelopt_fp8_transformer")}
    for name, source in sources.items():
        module = types.ModuleType(f"sglang.multimodal_gen.{name}")
        parts = module.__name__.split(".")
        for i in range(1, len(parts)):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        sys.modules[module.__name__] = module
        exec(compile(source, name, "exec"), module.__dict__)
    return module.build_modelopt_fp8_transformer


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def config(class_name, ignore):
    return {"_class_name": class_name, "_diffusers_version": "0.37.0", "eps": 1e-06,
            "quantization_config": {
                "quant_method": "modelopt", "quant_algo": "FP8", "ignore": ignore,
                "producer": {"name": "modelopt", "version": "0.42.0"}}}


def backbone(path, amax):
    """A state dict of amax alone: {layer: (weight amax, input amax)}."""
    state = {}
    for layer, (weight, inputs) in amax.items():
        state[f"{layer}.weight_quantizer._amax"] = torch.tensor(weight, dtype=F32)
        state[f"{layer}.input_quantizer._amax"] = torch.tensor([inputs], dtype=F16)
    torch.save({"model_state_dict": state}, path)


def flux2_scaleless():
    """A 16-bit export: scales from the backbone alone, one layer of the profile, two shards."""
    case = OUT / "flux2-scaleless"
    write_json(case / "hf/transformer/config.json",
               config("Flux2Transformer2DModel", ["proj_out", "x_embedder*"]))
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(6, 4, generator=generator)
    shards = {"diffusion_pytorch_model-00001-of-00002.safetensors": {
                  "context_embedder.weight": torch.ones(4, 4, dtype=F16),
                  "context_embedder.bias": torch.ones(4, dtype=F16),
                  "transformer_blocks.0.attn.to_q.weight": torch.ones(4, 4, dtype=F16),
                  "transformer_blocks.0.attn.to_q._quantizer.leftover": torch.ones(1)},
              "diffusion_pytorch_model-00002-of-00002.safetensors": {
                  "transformer_blocks.0.ff.linear_in.weight": noise.to(BF16),
                  "transformer_blocks.0.ff.linear_out.weight": noise.T.contiguous(),
                  "transformer_blocks.0.norm.weight": torch.ones(4, dtype=BF16),
                  "proj_out.weight": torch.ones(4, 4, dtype=F16)}}
    for name, tensors in shards.items():
        save_file(tensors, case / "hf/transformer" / name, metadata={"writer": "test"})
    write_json(case / "hf/transformer/diffusion_pytorch_model.safetensors.index.json",
               {"metadata": {"total_size": 0},
                "weight_map": {t: name for name, ts in shards.items() for t in ts}})
    write_json(case / "base/config.json", {"_class_name": "Flux2Transformer2DModel"})
    save_file({"context_embedder.weight": torch.full((4, 4), 2, dtype=BF16),
               "context_embedder.bias": torch.ones(4, dtype=F16)},
              case / "base/diffusion_pytorch_model.safetensors")
    peak = noise.abs().max().item()
    backbone(case / "backbone.pt", {
        "context_embedder": (4.48, 224), "transformer_blocks.0.attn.to_q": (4.48, 224),
        "transformer_blocks.0.ff.linear_in": (peak, 3), "proj_out": (1, 1),
        "transformer_blocks.0.ff.linear_out": (peak, 0.1)})
    return case / "hf", case / "backbone.pt", case / "base", {}


def wan_ignored():
    """Ignored blocks have amax, a convolution is five-dimensional, one file is not a shard."""
    case = OUT / "wan-ignored"
    write_json(case / "hf/config.json",
               config("WanTransformer3DModel", ["blocks.0*", "patch_embedding", "proj_out"]))
    save_file({"blocks.0.attn1.to_q.weight": torch.full((2, 4), 1.5, dtype=F16),
               "blocks.3.attn1.to_q.weight": torch.arange(-4, 4, dtype=F32).reshape(2, 4).to(BF16),
               "blocks.3.attn1.to_q.bias": torch.ones(2, dtype=BF16),
               "blocks.3.scale_shift_table": torch.ones(1, 6, 4),
               "patch_embedding.weight": torch.ones(2, 1, 1, 2, 2, dtype=BF16),
               "proj_out.weight": torch.ones(2, 2, dtype=BF16)},
              case / "hf/weights.safetensors")
    (case / "hf/notes").mkdir()
    (case / "hf/notes/LICENSE").write_text("none\n")
    backbone(case / "backbone.pt", {
        "blocks.0.attn1.to_q": (1.5, 2), "blocks.3.attn1.to_q": (4, 7), "patch_embedding": (1, 1)})
    return case / "hf", case / "backbone.pt", None, {}


def exported(name, base, **options):
    folder = HERE / "modelopt" / name
    return folder / "hf", folder / "transformer.pt", folder / "base" if base else None, options


CASES = {
    "flux2-scaleless": flux2_scaleless,
    "wan-ignored": wan_ignored,
    "flux1-mini-none": lambda: exported("flux1-mini", False, model_type="none"),
    "flux1-micro": lambda: exported("flux1-micro", True),
    "flux1-micro-pattern": lambda: exported("flux1-micro", True, model_type="none",
                                            keep_bf16_patterns=[r"attn\.to_[qk]$", "proj_mlp"]),
    "flux2-micro": lambda: exported("flux2-micro", True),
    "wan-micro": lambda: exported("wan-micro", False),
}


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def describe(folder):
    """Index, metadata keys and tensors of a result."""
    index_file = next(folder.glob("*.safetensors.index.json"))
    result = {"index_name": index_file.name, "index": index_file.read_text(), "shards": {},
              "ignore": json.loads((folder / "config.json").read_text())
              ["quantization_config"]["ignore"]}
    for shard in sorted(folder.glob("*.safetensors")):
        with open(shard, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            data = file.read()
        metadata = header.pop("__metadata__")
        assert metadata["quantization_config"] == metadata["_quantization_metadata"]
        # The converter's later versions copy config.json into two more.
        keys = sorted(metadata.keys() - {"_class_name", "config"})
        tensors = {name: f'{e["dtype"]} {e["shape"]} {fnv1a(data[slice(*e["data_offsets"])])}'
                   for name, e in sorted(header.items())}
        result["shards"][shard.name] = {"metadata": keys, "tensors": tensors}
    return result


def main():
    wheel = pathlib.Path(sys.argv[1])
    convert = load_converter(wheel)
    shutil.rmtree(OUT, ignore_errors=True)
    golden = {"versions": {"sglang": wheel.name.split("-")[1], "torch": torch.__version__,
                           "safetensors": safetensors.__version__}, "cases": {}}
    for name, make in CASES.items():
        hf, ckpt, base, options = make()
        with tempfile.TemporaryDirectory() as temp:
            out = pathlib.Path(temp) / "out"
            stats = convert(modelopt_hf_dir=str(hf), modelopt_backbone_ckpt=str(ckpt),
                            base_transformer_dir=str(base) if base else None,
                            output_dir=str(out), **options)
            inputs = {"modelopt_hf_dir": hf, "modelopt_backbone_ckpt": ckpt,
                      "base_transformer_dir": base}
            golden["cases"][name] = {
                "inputs": {k: str(v.relative_to(HERE)) for k, v in inputs.items() if v},
                "options": options, "stats": stats, **describe(out)}
    write_json(OUT / "convert.json", golden)


if __name__ == "__main__":
    main()
