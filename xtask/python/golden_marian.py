"""Tiny checkpoints of Marian."""

import torch
from transformers import MarianMTModel

from golden_checkpoints import Spec


def spec(name: str, stored=torch.float32, shard_size=None, **config) -> Spec:
    base = dict(
        bos_token_id=None,
        decoder_attention_heads=config["encoder_attention_heads"],
        decoder_layers=2,
        decoder_start_token_id=config["pad_token_id"],
        encoder_layers=2,
        eos_token_id=0,
        max_position_embeddings=64,
        static_position_embeddings=True,
    )
    base |= config
    base["forced_eos_token_id"] = base["eos_token_id"]
    return Spec(name, MarianMTModel, base, stored, shard_size)


SPECS = {
    s.name: s
    for s in [
        spec(
            "marian_swish_tied",
            activation_function="swish", d_model=16, encoder_attention_heads=4, encoder_ffn_dim=32, decoder_ffn_dim=32,
            vocab_size=48, pad_token_id=47, scale_embedding=True,
        ),
        spec(
            "marian_relu_untied", stored=torch.float16,
            activation_function="relu", d_model=24, encoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=32,
            vocab_size=50, pad_token_id=49, scale_embedding=True, tie_word_embeddings=False,
        ),
        spec(
            "marian_relu_all_separate",
            activation_function="relu", d_model=16, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=40,
            vocab_size=40, pad_token_id=39, scale_embedding=False, tie_word_embeddings=False, decoder_layers=1,
            share_encoder_decoder_embeddings=False,
        ),
        spec(
            "marian_gelu_separate_vocab", stored=torch.bfloat16,
            activation_function="gelu", d_model=24, encoder_attention_heads=3, encoder_ffn_dim=48, decoder_ffn_dim=48,
            vocab_size=57, decoder_vocab_size=45, pad_token_id=44, scale_embedding=False, encoder_layers=3,
            share_encoder_decoder_embeddings=False,
        ),
        spec(
            "marian_eos_nonzero", shard_size="24KB",
            activation_function="swish", d_model=20, encoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            vocab_size=52, pad_token_id=51, eos_token_id=40, scale_embedding=True,
        ),
    ]
}
