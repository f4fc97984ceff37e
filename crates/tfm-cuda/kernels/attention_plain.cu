// Attention and its gradient in f32 arithmetic, without biases; and what all gradients begin with.
#include "attention_plain.cuh"

ROWS(f32)
PLAIN(attention_plain, f32, UNBIASED)
ROWS(f16)
PLAIN(attention_plain, f16, UNBIASED)
ROWS(bf16)
PLAIN(attention_plain, bf16, UNBIASED)
