"""Hold a model that tfm exported against the reference implementation of its family.

    pip install -r xtask/python/requirements.txt
    python xtask/python/compare_export.py MODEL_DIR --answers FILE           compare tfm's answers with the reference's
    python xtask/python/compare_export.py MODEL_DIR --write FILE [< TEXT]    write the reference's own answers

MODEL_DIR is loaded as it stands: by `transformers` (MarianMTModel and MarianTokenizer) if its `model_type` is "marian", into
`torch.nn.Transformer` if it is "transformer". A tensor that is missing, left over or of another shape is an error.
Everything is computed in f32, one sentence at a time. Sentences come from standard input, one a line; on a terminal, or if it is
empty, a list of our own is taken.

FILE, in both directions, is one safetensors file; N counts sentences from 0:

    source.N   I32 [S]     source ids with eos
    target.N   I32 [T]     decoder input: the start token, then target ids
    logits.N   F32 [T, V]  teacher-forced logits, final bias included
    greedy.N   I32 [G]     what greedy search answers within --max-new-tokens, without the start token, eos included (optional)

and in its metadata `text.N`, the sentence that `source.N` was made of (optional). Logits agree if they differ by less than
--tolerance of the largest of them. Greedy outputs agree if they are equal, or part where the reference's own logits of the two
tokens lie that close (`near-tie`). Ids agree if the reference's tokeniser makes the same of the text. The exit status
is 0 if all agree, else 1.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SENTENCES = [
    "Hello.",
    "I don't know what you mean.",
    "The children were playing in the garden when it began to rain.",
    "She's 25 years old & lives at no. 7, isn't that right?",
    "Could you tell me how to get to the station, please?",
    "Dès demain, l'élève naïf paiera 3,50 € à Zürich!",
    "a",
]


class Marian:
    """`transformers`' model and tokeniser, under the folder's own generation_config.json."""

    def __init__(self, folder: Path, config: dict):
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.model, info = transformers.MarianMTModel.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        if info["missing_keys"] or info["unexpected_keys"] or info["mismatched_keys"]:
            raise SystemExit(f"{folder} does not load cleanly: {info}")
        self.model.eval()
        self.start = config["decoder_start_token_id"]

    def logits(self, source: list[int], target: list[int]) -> torch.Tensor:
        """`[T, V]`."""
        ids = torch.tensor([source])
        return self.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=torch.tensor([target])
        ).logits[0]

    def greedy(self, source: list[int], max_new_tokens: int) -> list[int]:
        """The output without the start token."""
        ids = torch.tensor([source])
        answer = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), num_beams=1, do_sample=False, max_new_tokens=max_new_tokens
        )
        return answer[0, 1:].tolist()


# What the module that golden_paper.py builds always is.
PAPER = {
    "positions": "sinusoidal_interleaved", "scale_embedding": True, "final_norm": True, "bias": True,
    "share_encoder_decoder_embeddings": True,
}  # fmt: skip


class Paper:
    """`torch.nn.Transformer`, as far as it can be what config.json says."""

    def __init__(self, folder: Path, config: dict):
        import golden_paper

        defaults = {"norm_first": False, "norm_eps": 1e-5, "tie_word_embeddings": True}
        config = defaults | config
        faults = [f"{key} is {config[key]!r}" for key, value in PAPER.items() if config.get(key, value) != value]
        for key in ("attention_heads", "ffn_dim"):
            if config[f"encoder_{key}"] != config[f"decoder_{key}"]:
                faults.append(f"encoder and decoder differ in {key}")
        if config.get("output_bias", not config["tie_word_embeddings"]) == config["tie_word_embeddings"]:
            faults.append("the output has a bias though it is tied, or none though it is not")
        if isinstance(config["eos_token_id"], list):
            faults.append("there are several ends of a sentence")
        if faults:
            raise SystemExit(f"{folder}: torch.nn.Transformer between tables cannot be this model: {'; '.join(faults)}")
        torch.backends.mha.set_fastpath_enabled(False)
        weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
        self.model = golden_paper.variant(config, weights)
        self.start = config["decoder_start_token_id"]

    def logits(self, source: list[int], target: list[int]) -> torch.Tensor:
        """`[T, V]`."""
        return self.model.logits(self.model.encode(source), target)

    def greedy(self, source: list[int], max_new_tokens: int) -> list[int]:
        """The output without the start token."""
        return self.model.greedy(source, max_new_tokens)


FAMILIES = {"marian": Marian, "transformer": Paper}


def tokenizer(folder: Path):
    """The folder's MarianTokenizer, or None if it holds none."""
    if not (folder / "source.spm").exists():
        return None
    from transformers import MarianTokenizer

    return MarianTokenizer.from_pretrained(folder)


def write(options: argparse.Namespace, model) -> bool:
    """Write what the reference answers."""
    encode = tokenizer(options.model)
    if encode is None:
        raise SystemExit(f"{options.model} has no source.spm to make ids of sentences with")
    lines = [] if sys.stdin.isatty() else [line for line in sys.stdin.read().split("\n") if line.strip()]
    tensors, metadata = {}, {}
    for number, text in enumerate(lines or SENTENCES):
        source = encode(text)["input_ids"]
        greedy = model.greedy(source, options.max_new_tokens)
        target = [model.start] + greedy[:-1]
        metadata[f"text.{number}"] = text
        for name, ids in [("source", source), ("target", target), ("greedy", greedy)]:
            tensors[f"{name}.{number}"] = torch.tensor(ids, dtype=torch.int32)
        tensors[f"logits.{number}"] = model.logits(source, target).contiguous()
    save_file(tensors, options.write, metadata=metadata)
    print(f"{options.write}: {len(metadata)} sentences")
    return True


def compare(options: argparse.Namespace, model) -> bool:
    """Print a table; whether everything in it agrees."""
    with safe_open(options.answers, "pt") as file:
        texts = file.metadata() or {}
    tensors = load_file(options.answers)
    count = sum(name.startswith("source.") for name in tensors)
    if not count:
        raise SystemExit(f"{options.answers} holds no tensor `source.0`")
    encode = tokenizer(options.model) if any(key.startswith("text.") for key in texts) else None
    print(f"{options.model} ({type(model).__name__}), {options.answers}: logits within {options.tolerance:g}")
    print(f"{'sentence':>8}  {'source':>6}  {'target':>6}  {'logits':>8}  {'greedy':>9}  ids")
    agreeing = 0
    for number in range(count):
        missing = [name for name in ("source", "target", "logits") if f"{name}.{number}" not in tensors]
        if missing:
            raise SystemExit(f"{options.answers} has no {missing[0]}.{number}")
        source, target = (tensors[f"{name}.{number}"].tolist() for name in ("source", "target"))
        error = relative_error(tensors[f"logits.{number}"], model.logits(source, target))
        greedy = ids = "-"
        if f"greedy.{number}" in tensors:
            greedy = compare_greedy(options, model, source, tensors[f"greedy.{number}"].tolist())
        if encode is not None and f"text.{number}" in texts:
            ids = "same" if encode(texts[f"text.{number}"])["input_ids"] == source else "differ"
        agrees = error < options.tolerance and not greedy.startswith("differ") and ids != "differ"
        agreeing += agrees
        line = f"{number:>8}  {len(source):>6}  {len(target):>6}  {error:>8.1e}  {greedy:>9}  {ids}"
        print(line if agrees else f"{line}  <- differs")
    print(f"{agreeing} of {count} sentences agree")
    return agreeing == count


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest difference over the largest logit; infinite if the shapes differ or a number is none."""
    if ours.shape != reference.shape:
        return float("inf")
    error = ((ours.double() - reference.double()).abs().max() / reference.double().abs().max()).item()
    return error if math.isfinite(error) else float("inf")


def compare_greedy(options: argparse.Namespace, model, source: list[int], ours: list[int]) -> str:
    """`same`, `near-tie`, or `differ@` and the place of the first token that is another."""
    reference = model.greedy(source, options.max_new_tokens)
    if ours == reference:
        return "same"
    place = next((i for i, pair in enumerate(zip(ours, reference)) if pair[0] != pair[1]), None)
    if place is None:
        return f"differ@{min(len(ours), len(reference))}"
    scores = model.logits(source, [model.start] + reference[:place])[-1]
    gap = abs(scores[reference[place]] - scores[ours[place]]) / scores.abs().max()
    return "near-tie" if gap < options.tolerance else f"differ@{place}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--answers", type=Path, metavar="FILE", help="tfm's answers, to be compared")
    what.add_argument("--write", type=Path, metavar="FILE", help="where the reference's answers go")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative error of logits (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="of greedy search (default: %(default)s)")
    options = parser.parse_args()

    config = json.loads((options.model / "config.json").read_text())
    family = FAMILIES.get(config.get("model_type"))
    if family is None:
        raise SystemExit(
            f"{options.model}: model_type is {config.get('model_type')!r}, not one of {', '.join(FAMILIES)}"
        )
    with torch.inference_mode():
        model = family(options.model, config)
        agrees = (write if options.write else compare)(options, model)
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
