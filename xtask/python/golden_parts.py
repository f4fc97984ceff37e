"""Tiny models of families that are not read yet, to check the parts of a description that they need.

Weights carry tfm's own names. `transformers` answers: the encoder's output, and logits of a known target.
"""

import random
import re
from pathlib import Path

import torch
from transformers import (
    BartConfig, BartForConditionalGeneration, MBartConfig, MBartForConditionalGeneration, T5Config,
    T5ForConditionalGeneration, UMT5Config, UMT5ForConditionalGeneration,
)  # fmt: skip

import golden_common as common

VOCABULARY = 31
BART = {
    "vocab_size": VOCABULARY, "d_model": 12, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 3,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 20, "decoder_ffn_dim": 14, "max_position_embeddings": 24,
    "activation_function": "gelu", "scale_embedding": True, "dropout": 0.0,
}  # fmt: skip
# Heads share other features than d_model, and distances go beyond the last bucket.
T5 = {
    "vocab_size": VOCABULARY, "d_model": 12, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 3, "d_kv": 5,
    "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10, "dropout_rate": 0.0,
    "layer_norm_epsilon": 1e-5,
}  # fmt: skip

MODELS = {
    "t5": lambda: T5ForConditionalGeneration(T5Config(**T5, d_ff=20, feed_forward_proj="gated-gelu")),
    "umt5": lambda: UMT5ForConditionalGeneration(UMT5Config(**T5, d_ff=18, feed_forward_proj="relu")),
    "bart": lambda: BartForConditionalGeneration(BartConfig(**BART)),
    "mbart": lambda: MBartForConditionalGeneration(MBartConfig(**BART)),
}

# Names of `transformers` and ours, in the order in which they are replaced.
T5_NAMES = [
    (r"^shared\.weight$", "source_embedding.weight"),
    (r"^lm_head\.weight$", "output.weight"),
    (r"\.block\.(\d+)\.", r".layers.\1."),
    (r"(encoder.*)layer\.1\.layer_norm", r"\1feed_forward_norm"),
    (r"(decoder.*)layer\.1\.layer_norm", r"\1cross_attention_norm"),
    (r"layer\.2\.layer_norm", "feed_forward_norm"),
    (r"layer\.0\.layer_norm", "self_attention_norm"),
    (r"final_layer_norm", "final_norm"),
    (r"layer\.\d\.SelfAttention", "self_attention"),
    (r"layer\.\d\.EncDecAttention", "cross_attention"),
    (r"layer\.\d\.DenseReluDense\.(wi_1|wi)\.", "feed_forward.inner."),
    (r"layer\.\d\.DenseReluDense\.wi_0", "feed_forward.gate"),
    (r"layer\.\d\.DenseReluDense\.wo", "feed_forward.outer"),
    (r"\.q\.", ".query."), (r"\.k\.", ".key."), (r"\.v\.", ".value."), (r"\.o\.", ".output."),
    (r"relative_attention_bias", "relative_positions"),
]  # fmt: skip
BART_NAMES = [
    (r"^model\.", ""),
    (r"^shared\.weight$", "source_embedding.weight"),
    (r"^final_logits_bias$", "output.bias"),
    (r"layernorm_embedding", "embedding_norm"),
    (r"(layers\.\d+)\.final_layer_norm", r"\1.feed_forward_norm"),
    (r"coder\.layer_norm", "coder.final_norm"),
    (r"self_attn", "self_attention"), (r"encoder_attn", "cross_attention"), (r"_layer_norm", "_norm"),
    (r"q_proj", "query"), (r"k_proj", "key"), (r"v_proj", "value"), (r"out_proj", "output"),
    (r"fc1", "feed_forward.inner"), (r"fc2", "feed_forward.outer"), (r"embed_positions", "positions"),
]  # fmt: skip


def renamed(name: str, names: list[tuple[str, str]]) -> str:
    """Our name of a tensor."""
    for theirs, ours in names:
        name = re.sub(theirs, ours, name)
    return name


def our_weights(kind: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights by our names, tied ones once."""
    weights = {}
    is_t5 = kind.endswith("t5")
    for name, tensor in model.state_dict().items():
        if re.search(r"embed_tokens|^lm_head" if model.config.tie_word_embeddings else "embed_tokens", name):
            continue
        name = renamed(name, T5_NAMES if is_t5 else BART_NAMES)
        if kind == "t5":
            name = re.sub(r"layers\.0\.self_attention\.relative_positions", "relative_positions", name)
        if name.endswith("positions.weight") and not is_t5:
            tensor = tensor[2:]
        weights[name] = tensor.reshape(-1) if name == "output.bias" else tensor
    return weights


def make(kind: str, out: Path) -> str:
    """Write the weights and their goldens to `out`; returns a line about them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(common.seed_of(out.name))
    rng = random.Random(common.seed_of(out.name))
    model = MODELS[kind]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.25 * noise if is_norm else 0.4 * noise)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(0.3 * torch.randn((1, VOCABULARY), generator=generator))
    weights = {name: tensor.clone() for name, tensor in our_weights(kind, model).items()}
    source, target = ([rng.randrange(VOCABULARY) for _ in range(length)] for length in (17, 14))
    inputs = {"input_ids": torch.tensor([source]), "decoder_input_ids": torch.tensor([target])}
    with torch.inference_mode():
        single, double = model(**inputs), model.double()(**inputs)
    common.check_close(kind, single.logits, double.logits)
    tensors = {name: tensor.float() for name, tensor in weights.items()}
    tensors |= {
        "golden.source": torch.tensor(source, dtype=torch.int32),
        "golden.target": torch.tensor(target, dtype=torch.int32),
        "golden.encoder_output": double.encoder_last_hidden_state[0].float(),
        "golden.logits": double.logits[0].float(),
    }
    common.write_tensors(out, tensors)
    return f"{len(weights)} tensors; tied {model.config.tie_word_embeddings}"
