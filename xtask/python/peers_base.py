"""A model of the base shape with random weights, for measuring speed where no trained checkpoint is at hand.

    python peers_base.py --spm FILE.spm --out DIR

The shape of OPUS-MT stands in base_shape.json: d 512, 6 + 6 layers, 8 heads, feed-forward 2048, 54,688 tokens, tied embeddings,
swish, norms after the residual. DIR is a Marian checkpoint in Hugging Face layout as `transformers`, CTranslate2's converter and tfm read it, with the
sources beside it: `sources.txt`, 512 of 8 to 40 tokens, and `single.txt`, 20 tokens each, a line of ids a source, the end token
last. All of it follows from the seed.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import sentencepiece
from safetensors.numpy import save_file

SEED = 5
SHAPE = json.loads(Path(__file__).with_name("base_shape.json").read_text())
WIDTH, LAYERS, INNER, VOCABULARY = (SHAPE[name] for name in ("d_model", "decoder_layers", "decoder_ffn_dim", "vocab_size"))
END, UNKNOWN, PAD = SHAPE["eos_token_id"], 1, SHAPE["pad_token_id"]
SOURCES, SHORTEST, LONGEST = 512, 8, 40
SINGLE, SINGLE_LENGTH = 128, 20


def weights(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Numbers of such a size that every layer hands on a variance of about 1: logits are then neither flat nor settled."""

    def normal(rows: int, columns: int) -> np.ndarray:
        return random.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(columns))

    tensors = {}

    def linear(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = normal(rows, columns)
        tensors[f"{name}.bias"] = np.zeros(rows, np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        tensors[f"{name}.bias"] = np.zeros(WIDTH, np.float32)

    for side, attentions in [("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])]:
        for layer in range(LAYERS):
            place = f"model.{side}.layers.{layer}"
            for attention in attentions:
                for projection in ["q_proj", "k_proj", "v_proj", "out_proj"]:
                    linear(f"{place}.{attention}.{projection}", WIDTH, WIDTH)
                norm(f"{place}.{attention}_layer_norm")
            linear(f"{place}.fc1", INNER, WIDTH)
            linear(f"{place}.fc2", WIDTH, INNER)
            norm(f"{place}.final_layer_norm")
    shared = normal(VOCABULARY, WIDTH)
    # The decoder starts with the padding token, which Marian's models give no embedding.
    shared[PAD] = 0
    tensors["model.shared.weight"] = shared
    tensors["final_logits_bias"] = np.zeros((1, VOCABULARY), np.float32)
    return tensors


def vocabulary(spm: Path) -> dict[str, int]:
    """The pieces of a small tokeniser, and made-up ones for the rest: sources are ids, so nobody reads them."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(spm))
    special = ["</s>", "<unk>"]
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size()) if not processor.is_control(i)]
    tokens = special + [piece for piece in dict.fromkeys(pieces) if piece not in special]
    tokens += [f"▁{number}#" for number in range(VOCABULARY - 1 - len(tokens))]
    return {token: number for number, token in enumerate([*tokens, "<pad>"])}


def sources(random: np.random.Generator, count: int, shortest: int, longest: int) -> str:
    """Lines of ids: `shortest` to `longest` of them, the end token included."""
    lengths = random.integers(shortest, longest + 1, count)
    lines = ([*random.integers(UNKNOWN + 1, PAD, length - 1).tolist(), END] for length in lengths)
    return "".join(" ".join(map(str, line)) + "\n" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spm", type=Path, required=True, help="a tokeniser, so that the folder is a whole checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(SEED)
    save_file(weights(random), out / "model.safetensors", metadata={"format": "pt"})
    for side in ["source", "target"]:
        shutil.copy(options.spm, out / f"{side}.spm")
    generation = {"decoder_start_token_id": PAD, "eos_token_id": END, "pad_token_id": PAD, "bad_words_ids": [[PAD]]}
    tokenizer = {
        "tokenizer_class": "MarianTokenizer",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "model_max_length": 512,
        "separate_vocabs": False,
    }
    files = {
        "vocab.json": vocabulary(options.spm),
        "generation_config.json": generation,
        "tokenizer_config.json": tokenizer,
        # Last: whoever finds it finds the rest.
        "config.json": SHAPE,
    }
    (out / "sources.txt").write_text(sources(random, SOURCES, SHORTEST, LONGEST))
    (out / "single.txt").write_text(sources(random, SINGLE, SINGLE_LENGTH, SINGLE_LENGTH))
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, ensure_ascii=False, indent=None if "vocab" in name else 2), "utf-8")


if __name__ == "__main__":
    main()
