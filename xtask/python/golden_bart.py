"""Tiny checkpoints of BART and its relatives."""

import torch
from transformers import (
    BartForConditionalGeneration, BlenderbotForConditionalGeneration, M2M100ForConditionalGeneration,
    MBartForConditionalGeneration, PegasusForConditionalGeneration, PLBartForConditionalGeneration,
)  # fmt: skip

from golden_checkpoints import Spec


def spec(name: str, model_class, stored=torch.float32, forced=True, **config) -> Spec:
    base = dict(
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=40,
        max_position_embeddings=64,
    )
    base |= config
    base["forced_eos_token_id"] = base["eos_token_id"] if forced else None
    return Spec(name, model_class, base, stored)


SPECS = {
    s.name: s
    for s in [
        spec("bart", BartForConditionalGeneration, activation_function="gelu", d_model=24, vocab_size=48),
        spec(
            "bart_scaled", BartForConditionalGeneration, stored=torch.bfloat16, activation_function="gelu_new", d_model=20,
            vocab_size=45, scale_embedding=True, encoder_layers=1, decoder_layers=3, encoder_attention_heads=5,
        ),
        spec(
            "mbart", MBartForConditionalGeneration, activation_function="relu", d_model=16, vocab_size=47,
            scale_embedding=True, decoder_start_token_id=44,
        ),
        spec("plbart", PLBartForConditionalGeneration, activation_function="gelu", d_model=16, vocab_size=44),
        spec(
            "pegasus", PegasusForConditionalGeneration, activation_function="relu", d_model=24, vocab_size=46,
            scale_embedding=True, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, bos_token_id=None,
        ),
        spec(
            "blenderbot", BlenderbotForConditionalGeneration, activation_function="gelu", d_model=16, vocab_size=43,
            scale_embedding=True, bos_token_id=1, pad_token_id=0, decoder_start_token_id=1,
        ),
        spec(
            "m2m_100", M2M100ForConditionalGeneration, forced=False, activation_function="relu", d_model=24, vocab_size=49,
            scale_embedding=True,
        ),
        spec(
            "m2m_100_odd", M2M100ForConditionalGeneration, stored=torch.float16, forced=False, activation_function="gelu",
            d_model=15, vocab_size=42, scale_embedding=False, encoder_attention_heads=3, decoder_attention_heads=5,
            pad_token_id=3,
        ),
    ]
}
