// Dropout: a pack a thread, whose numbers are one or two blocks of Philox. Each element is read and written once; no mask is stored.
#include "packs.cuh"

#define DROPOUT(T) \
  KERNEL dropout_##T(const T* x, const i32* key, const T* residual, uint32_t stream, float rate, float scale, T* out, \
                     Count n) { \
    const Place<T> place(n); \
    if (place.left == 0) return; \
    float part[PACK<T>], more[PACK<T>] = {}; \
    load(part, x + place.first, place.left, aligned(x), 0.f); \
    if (residual) load(more, residual + place.first, place.left, aligned(residual), 0.f); \
    _Pragma("unroll") for (int i = 0; i < PACK<T>; i += 4) { \
      const uint4 words = philox(key[0], key[1], key[2], stream, place.first / 4 + i / 4); \
      const uint32_t word[4] = {words.x, words.y, words.z, words.w}; \
      _Pragma("unroll") for (int j = 0; j < 4; j++) \
        part[i + j] = more[i + j] + (unit(word[j]) < rate ? 0.f : part[i + j] * scale); \
    } \
    store(out + place.first, part, place.left, aligned(out)); \
  }

DROPOUT(f32)
DROPOUT(f16)
DROPOUT(bf16)
