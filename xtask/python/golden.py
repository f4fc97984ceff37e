"""Make the golden fixtures again: tiny checkpoints and what their reference implementations answer for them.

    pip install -r xtask/python/requirements.txt
    python xtask/python/golden.py --out crates/tfm/tests/fixtures [--only NAME…]

`nn_transformer_*` are answered by `torch.nn.Transformer`, all others by Hugging Face `transformers`.
What each file holds is written in crates/tfm/tests/fixtures/README.md; `training`, made from the tiny checkpoints, is
described in crates/tfm-train/tests/fixtures/README.md. The same versions on the same kind of machine give the same
files: every random number comes from a seed that the fixture's name fixes.
"""

import argparse
from pathlib import Path

import torch

import golden_bart
import golden_bundled
import golden_checkpoints
import golden_marian
import golden_paper
import golden_parts
import golden_t5
import golden_training

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "crates/tfm/models"
TRAINING = ROOT / "crates/tfm-train/tests/fixtures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder of fixtures")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="make these alone")
    parser.add_argument("--bundled", type=Path, default=MODELS / "marian-tatoeba-en-fr", help="the bundled checkpoint")
    parser.add_argument("--training", type=Path, default=TRAINING, help="the folder of fixtures of training")
    options = parser.parse_args()

    torch.set_num_threads(1)
    families = golden_marian.SPECS | golden_bart.SPECS | golden_t5.SPECS
    makers = {name: lambda out, spec=spec: golden_checkpoints.make(spec, out) for name, spec in families.items()}
    makers |= {name: lambda out, spec=spec: golden_paper.make(spec, out) for name, spec in golden_paper.SPECS.items()}
    makers |= {f"parts/{kind}.safetensors": lambda out, kind=kind: golden_parts.make(kind, out) for kind in golden_parts.MODELS}
    makers["bundled"] = lambda out: golden_bundled.make(options.bundled, out)
    makers["training"] = lambda out: golden_training.make(out.parent, options.training)
    unknown = set(options.only) - set(makers)
    if unknown:
        parser.error(f"no such fixture: {', '.join(sorted(unknown))} (there are {', '.join(makers)})")
    for name in options.only or makers:
        print(f"{name}: {makers[name](options.out / name)}", flush=True)


if __name__ == "__main__":
    main()
