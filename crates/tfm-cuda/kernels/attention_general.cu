// Flash attention, forward, for what the lean kernels do not compute: groups of heads, windows, a cap of the scores, two sets of
// keys, with or without biases. Heads are padded to three sizes alone.
#include "attention_general.cuh"

ATTENTION_GENERAL(f16, 64)
ATTENTION_GENERAL(f16, 128)
ATTENTION_GENERAL(f16, 256)
ATTENTION_GENERAL(bf16, 64)
ATTENTION_GENERAL(bf16, 128)
ATTENTION_GENERAL(bf16, 256)
