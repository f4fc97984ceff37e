// Activation functions and their gradients by themselves: a pack a thread, each element read and written once.
#include "activation.cuh"
#include "packs.cuh"

namespace {

template <int FUNCTION, typename T> __device__ void each(const T* x, const T* dy, T* out, Count n) {
  const Place<T> place(n);
  if (place.left == 0) return;
  float part[PACK<T>];
  load(part, x + place.first, place.left, aligned(x), 0.f);
  if (dy == nullptr) {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) part[i] = activate<FUNCTION>(part[i]);
  } else {
    float above[PACK<T>];
    load(above, dy + place.first, place.left, aligned(dy), 0.f);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) part[i] = above[i] * slope<FUNCTION>(part[i]);
  }
  store(out + place.first, part, place.left, aligned(out));
}

}  // namespace

// Without dy the function, with dy its gradient.
#define ACTIVATION(T) \
  KERNEL activate_##T(int function, const T* x, const T* dy, T* out, Count n) { \
    switch (function) { \
      case RELU: return each<RELU>(x, dy, out, n); \
      case GELU: return each<GELU>(x, dy, out, n); \
      case GELU_TANH: return each<GELU_TANH>(x, dy, out, n); \
      case SWISH: return each<SWISH>(x, dy, out, n); \
      default: return each<TANH>(x, dy, out, n); \
    } \
  }

ACTIVATION(f32)
ACTIVATION(f16)
ACTIVATION(bf16)
