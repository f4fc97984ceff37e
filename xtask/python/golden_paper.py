"""Tiny checkpoints of the paper's Transformer: `torch.nn.Transformer` between embeddings and a projection.

The weights keep torch's own names. config.json is tfm's own format for this family.
"""

import json
import math
import random
import shutil
from pathlib import Path

import torch

import golden_common as common

SPECS = {
    "nn_transformer_post": {
        "activation_function": "relu", "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "norm_first": False,
        "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "norm_eps": 1e-5, "tie_word_embeddings": True, "vocab_size": 44,
    },
    "nn_transformer_pre": {
        "activation_function": "gelu", "d_model": 20, "encoder_layers": 2, "decoder_layers": 3, "norm_first": True,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "norm_eps": 1e-6, "tie_word_embeddings": False, "vocab_size": 41,
    },
}  # fmt: skip

COMMON = {
    "model_type": "transformer", "bos_token_id": 1, "decoder_start_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "final_norm": True, "max_position_embeddings": 64, "positions": "sinusoidal_interleaved", "scale_embedding": True,
}  # fmt: skip

MAX_NEW_TOKENS = 24


class PaperTransformer(torch.nn.Module):
    """Section 3 of the paper: one embedding × √d plus positions for both sides, the stacks, and the projection."""

    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        d = config["d_model"]
        self.embedding = torch.nn.Embedding(config["vocab_size"], d)
        self.transformer = torch.nn.Transformer(
            d_model=d,
            nhead=config["encoder_attention_heads"],
            num_encoder_layers=config["encoder_layers"],
            num_decoder_layers=config["decoder_layers"],
            dim_feedforward=config["encoder_ffn_dim"],
            dropout=0.0,
            activation=config["activation_function"],
            layer_norm_eps=config["norm_eps"],
            batch_first=True,
            norm_first=config["norm_first"],
        )
        self.generator = None if config["tie_word_embeddings"] else torch.nn.Linear(d, config["vocab_size"])

    def positions(self, length: int) -> torch.Tensor:
        """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(the same): `[length, d_model]`, in f64."""
        d = self.config["d_model"]
        position = torch.arange(length, dtype=torch.float64)[:, None]
        angle = position / 10000.0 ** (torch.arange(0, d, 2, dtype=torch.float64) / d)
        return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(length, d)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """`[B, length]` to `[B, length, d_model]`."""
        vectors = self.embedding(ids) * math.sqrt(self.config["d_model"])
        return vectors + self.positions(ids.shape[1]).to(vectors.dtype)

    def decode(self, encoded: torch.Tensor, decoder: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """`[B, S, d_model]` and `[B, T]` to logits `[B, T, vocab_size]`; `padding` `[B, S]` is true where a source has ended."""
        target = self.embed(decoder)
        mask = self.transformer.generate_square_subsequent_mask(decoder.shape[1], dtype=target.dtype)
        hidden = self.transformer.decoder(target, encoded, tgt_mask=mask, memory_key_padding_mask=padding)
        return hidden @ self.embedding.weight.T if self.generator is None else self.generator(hidden)

    def forward(self, source: torch.Tensor, decoder: torch.Tensor, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `[B, T, vocab_size]` of sources `[B, S]` with decoder inputs `[B, T]`."""
        encoded = self.transformer.encoder(self.embed(source), src_key_padding_mask=padding)
        return self.decode(encoded, decoder, padding)

    def encode(self, source: list[int]) -> torch.Tensor:
        """`[1, S, d_model]`."""
        return self.transformer.encoder(self.embed(torch.tensor([source])))

    def logits(self, encoded: torch.Tensor, decoder: list[int]) -> torch.Tensor:
        """`[T, vocab_size]`."""
        return self.decode(encoded, torch.tensor([decoder]))[0]

    def greedy(self, source: list[int], max_new_tokens: int) -> list[int]:
        """The most probable token at each step, padding never, until eos or `max_new_tokens`."""
        encoded, decoder = self.encode(source), [self.config["decoder_start_token_id"]]
        while len(decoder) <= max_new_tokens:
            scores = self.logits(encoded, decoder)[-1]
            scores[self.config["pad_token_id"]] = -math.inf
            decoder.append(int(scores.argmax()))
            if decoder[-1] == self.config["eos_token_id"]:
                break
        return decoder[1:]


def make(spec: dict, out: Path) -> str:
    """Write the checkpoint and its goldens to `out`; returns a line about them."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    torch.backends.mha.set_fastpath_enabled(False)
    config = dict(sorted((COMMON | spec).items()))
    generator = torch.Generator().manual_seed(common.seed_of(out.name))
    model = PaperTransformer(config).eval()
    common.randomise(model, generator)
    common.train_briefly(model, model.forward, random.Random(common.seed_of(out.name)), config, steps=900)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    generation = {
        "bad_words_ids": [[config["pad_token_id"]]], "bos_token_id": config["bos_token_id"],
        "decoder_start_token_id": config["decoder_start_token_id"], "eos_token_id": config["eos_token_id"],
        "max_length": 1 + MAX_NEW_TOKENS, "num_beams": 1, "pad_token_id": config["pad_token_id"],
    }  # fmt: skip
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2, sort_keys=True) + "\n")
    weights = model.state_dict()
    common.write_tensors(out / "model.safetensors", weights)

    double = variant(config, {name: w.double() for name, w in weights.items()})
    close = [variant(config, common.nudged(weights, seed)) for seed in range(3)]
    rng = random.Random(common.seed_of(out.name))
    tokens = range(3, config["vocab_size"])
    tensors, teacher_forced = {}, []
    with torch.inference_mode():
        for index, length in enumerate([1, 4, 2, 7, 11]):
            source = common.random_sentence(rng, length, tokens, config["eos_token_id"])
            decoder = [config["bos_token_id"]] + common.random_sentence(rng, 12 - length, tokens, None)
            answers = []
            for m in (model, double):
                encoded = m.encode(source)
                answers.append((encoded[0], m.logits(encoded, decoder)))
            for single, exact in zip(*answers):
                common.check_close(f"{out.name}, sentence {index}", single, exact)
            tensors |= common.teacher_forced_tensors(index, source, decoder, *answers[0])
            teacher_forced.append({"source": source, "decoder": decoder})
        generations, dropped = [], 0
        for length in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 24]:
            source = common.random_sentence(rng, length, tokens, config["eos_token_id"])
            output = model.greedy(source, MAX_NEW_TOKENS)
            if any(m.greedy(source, MAX_NEW_TOKENS) != output for m in [double, *close]):
                dropped += 1
                continue
            options = {"num_beams": 1, "max_new_tokens": MAX_NEW_TOKENS,
                       "bad_words_ids": [[config["pad_token_id"]]]}  # fmt: skip
            generations.append({"source": source, "options": options, "outputs": [output], "scores": []})
    common.write_tensors(out / "golden.safetensors", tensors)
    head = {"model": out.name, "versions": common.versions(), "computed_in": "float32"}
    lists = {"teacher_forced": teacher_forced, "generations": generations, "defaults": []}
    common.write_json(out / "golden.json", head, lists)
    lengths = sorted(len(case["outputs"][0]) for case in generations)
    return f"{len(generations)} generations kept, {dropped} dropped; lengths {lengths}"


def variant(config: dict, weights: dict) -> PaperTransformer:
    """The same model with other weights, in their precision."""
    model = PaperTransformer(config).to(next(iter(weights.values())).dtype)
    model.load_state_dict(weights)
    return model.eval()
