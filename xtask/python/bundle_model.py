"""Make models/marian-tatoeba-en-fr from the float32 checkpoint: weights rounded to bf16, everything else copied.

    python xtask/python/bundle_model.py --checkpoint DIR --out models/marian-tatoeba-en-fr

DIR is a Marian checkpoint in Hugging Face layout. Each tensor keeps its name and shape, and its values are rounded to
the nearest bf16 (ties to even). Tensors that `transformers` builds by itself (sinusoidal position tables, and the
embeddings and output projection that are tied to `model.shared.weight`) are left out, so that each number is stored once.
The result is read back through `transformers` before it counts as made.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import MarianMTModel

COPIED = ["generation_config.json", "source.spm", "target.spm", "vocab.json", "tokenizer_config.json"]
TIED = ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"]
REBUILT = ["model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"]


def rounded(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights in bf16, without those that follow from others. A tied copy that differs is an error."""
    for name in TIED:
        if name in weights and not torch.equal(weights[name], weights["model.shared.weight"]):
            raise SystemExit(f"{name} differs from model.shared.weight: this checkpoint is not tied")
    dropped = set(TIED + REBUILT)
    return {name: w.to(torch.bfloat16).contiguous() for name, w in sorted(weights.items()) if name not in dropped}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.copyfile(options.checkpoint / name, options.out / name)
    config = json.loads((options.checkpoint / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (options.out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    weights = rounded(load_file(options.checkpoint / "model.safetensors"))
    save_file(weights, options.out / "model.safetensors", metadata={"format": "pt"})

    model, info = MarianMTModel.from_pretrained(options.out, dtype=torch.float32, output_loading_info=True)
    if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
        raise SystemExit(f"transformers does not load the result cleanly: {info}")
    loaded = model.state_dict()
    for name, weight in weights.items():
        if not torch.equal(loaded[name], weight.float()):
            raise SystemExit(f"{name} changed on the way through the file")
    size = (options.out / "model.safetensors").stat().st_size
    print(f"{options.out}: {len(weights)} tensors in bf16, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
