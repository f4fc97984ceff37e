// Attention of a decoding step without biases, and the merging of chunks for all.
#include "row_table_attention.cuh"

ATTEND_ALL(row_table_attention, UNBIASED)

#define MERGE(T) \
  KERNEL merge_chunks_##T(const float* partial, const i32* lengths, int width, int heads, int d_head, int chunks, \
                          T* context, Count n) { \
    merge(partial, lengths, width, heads, d_head, chunks, context, n); \
  }

MERGE(f32)
MERGE(f16)
MERGE(bf16)
