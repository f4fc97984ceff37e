// Token embedding with its scale and positional encoding: a thread an element.
#include "common.cuh"

// out[t, :] = scale·table[ids[t], :] + encoding[positions[t], :], each of width `width`; an id that is not there is the row 0.
#define EMBEDDING(T) \
  KERNEL embedding_##T(const i32* ids, const T* table, int64_t table_stride, Count rows, float scale, \
                       const i32* positions, const T* encoding, int64_t encoding_stride, Count encodings, T* out, \
                       Count width, Count n) { \
    const Count i = index(); \
    if (i >= n) return; \
    const Count token = i / width, column = i % width; \
    const Count id = (Count)ids[token] < rows ? ids[token] : 0; \
    float x = number(table[id * table_stride + column]) * scale; \
    if (positions) { \
      const Count position = (Count)positions[token] < encodings ? positions[token] : 0; \
      x += number(encoding[position * encoding_stride + column]); \
    } \
    out[i] = convert<T>(x); \
  }

EMBEDDING(f32)
EMBEDDING(f16)
EMBEDDING(bf16)
