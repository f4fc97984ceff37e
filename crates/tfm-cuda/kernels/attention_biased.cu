// Flash attention with learned biases by distance, forward and backward. Heads are padded to two sizes alone: the models that have
// such biases have heads of 64 and 128.
#include "attention_forward.cuh"
#include "attention_gradient.cuh"

ATTENTION(attention_biased, f16, 64, BIASED)
ATTENTION(attention_biased, f16, 128, BIASED)
ATTENTION(attention_biased, bf16, 64, BIASED)
ATTENTION(attention_biased, bf16, 128, BIASED)

GRADIENTS(attention_biased, f16, 64, BIASED)
GRADIENTS(attention_biased, f16, 128, BIASED)
GRADIENTS(attention_biased, bf16, 64, BIASED)
GRADIENTS(attention_biased, bf16, 128, BIASED)
