// Flash attention, forward, without biases.
#include "attention_forward.cuh"

ATTENTION(attention, f16, 32, UNBIASED)
ATTENTION(attention, f16, 64, UNBIASED)
ATTENTION(attention, f16, 96, UNBIASED)
ATTENTION(attention, f16, 128, UNBIASED)
ATTENTION(attention, f16, 256, UNBIASED)
ATTENTION(attention, bf16, 32, UNBIASED)
ATTENTION(attention, bf16, 64, UNBIASED)
ATTENTION(attention, bf16, 96, UNBIASED)
ATTENTION(attention, bf16, 128, UNBIASED)
ATTENTION(attention, bf16, 256, UNBIASED)
