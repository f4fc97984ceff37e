// Flash attention, backward, without biases.
#include "attention_gradient.cuh"

GRADIENTS(attention, f16, 32, UNBIASED)
GRADIENTS(attention, f16, 64, UNBIASED)
GRADIENTS(attention, f16, 96, UNBIASED)
GRADIENTS(attention, f16, 128, UNBIASED)
GRADIENTS(attention, f16, 256, UNBIASED)
GRADIENTS(attention, bf16, 32, UNBIASED)
GRADIENTS(attention, bf16, 64, UNBIASED)
GRADIENTS(attention, bf16, 96, UNBIASED)
GRADIENTS(attention, bf16, 128, UNBIASED)
GRADIENTS(attention, bf16, 256, UNBIASED)
