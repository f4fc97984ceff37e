"""Tiny checkpoints of T5 and its relatives."""

import torch
from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration, UMT5ForConditionalGeneration

from golden_checkpoints import Spec


def spec(name: str, model_class, stored=torch.float32, **config) -> Spec:
    base = dict(
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        num_layers=2,
        num_decoder_layers=2,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=10,
    )
    return Spec(name, model_class, base | config, stored)


SPECS = {
    s.name: s
    for s in [
        spec(
            "t5", T5ForConditionalGeneration, feed_forward_proj="relu", d_model=16, d_kv=6, num_heads=3, d_ff=28,
            vocab_size=48,
        ),
        spec(
            "t5_v1_1", T5ForConditionalGeneration, stored=torch.bfloat16, feed_forward_proj="gated-gelu", d_model=20, d_kv=5,
            num_heads=4, d_ff=24, vocab_size=45, tie_word_embeddings=False, num_layers=3,
        ),
        spec(
            "mt5", MT5ForConditionalGeneration, feed_forward_proj="gated-gelu", d_model=16, d_kv=8, num_heads=3, d_ff=20,
            vocab_size=47,
        ),
        spec(
            "umt5", UMT5ForConditionalGeneration, feed_forward_proj="gated-gelu", d_model=18, d_kv=4, num_heads=4, d_ff=22,
            vocab_size=46,
        ),
    ]
}
