#!/usr/bin/env python3
"""Reference outputs of a tiny, randomly initialised UMT5 encoder, as WanPipeline uses it.

Writes wan/umt5.safetensors beside this script: "weights.<name>" (bfloat16; the reference runs them
in float32), "ids" (int32, padded on the right with 0 to 512 tokens), "lengths" (int32: tokens that
are not padding) and "embeds<i>": the encoder's rows of prompt i that WanPipeline keeps, of a run
over all 512 tokens with the attention mask. "config" of the metadata is the model's config.json.

    python make_micro_umt5.py
"""
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

SEED = 20240803
HERE = pathlib.Path(__file__).resolve().parent
# One token (an empty prompt), a short one, one longer than the largest distance of 128.
LENGTHS = [1, 7, 180]


def randomize(model):
    """Weights that let every term matter, exactly representable in bfloat16."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape)
        if parameter.dim() == 1:
            value = 1 + 0.2 * noise
        elif "relative_attention_bias" in name or name == "shared.weight":
            value = noise
        else:
            value = noise / parameter.shape[1] ** 0.5
        parameter.data = value.bfloat16().float()
    return model.float().eval()


@torch.no_grad()
def main():
    torch.manual_seed(SEED)
    config = UMT5Config(vocab_size=384, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                        dropout_rate=0.0)
    model = randomize(UMT5EncoderModel(config))
    out = {f"weights.{key}": value.bfloat16().clone() for key, value in model.state_dict().items()
           if key != "encoder.embed_tokens.weight"}
    ids = torch.zeros(len(LENGTHS), 512, dtype=torch.int64)
    for row, length in zip(ids, LENGTHS):
        row[:length] = torch.randint(4, config.vocab_size, (length,))
        row[length - 1] = config.eos_token_id
    lengths = torch.tensor(LENGTHS)
    mask = (torch.arange(512) < lengths[:, None]).long()
    embeds = model(ids, mask).last_hidden_state
    out |= {"ids": ids.int(), "lengths": lengths.int()}
    for i, length in enumerate(LENGTHS):
        out[f"embeds{i}"] = embeds[i:i + 1, :length].clone()
    metadata = {"made_by": "make_micro_umt5.py", "seed": str(SEED), "torch": torch.__version__,
                "transformers": transformers.__version__, "config": config.to_json_string()}
    (HERE / "wan").mkdir(exist_ok=True)
    path = HERE / "wan" / "umt5.safetensors"
    save_file(out, path, metadata)
    path.chmod(0o644)


if __name__ == "__main__":
    main()
