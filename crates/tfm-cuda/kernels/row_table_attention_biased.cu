// Attention of a decoding step with learned biases by distance.
#include "row_table_attention.cuh"

ATTEND_ALL(row_table_attention_biased, BIASED)
