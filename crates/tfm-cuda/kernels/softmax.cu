// Softmax of rows, or its logarithm: a block a row, which is read for the maximum and the sum together, and again, from the
// cache, for the result.
//
// Floor of memory: one read and one write.
#include "packs.cuh"

namespace {

// y of a pack.
template <int N> __device__ void finish(float (&x)[N], Exponentials all, bool log, float normaliser) {
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = log ? x[i] - all.max - normaliser : expf(x[i] - all.max) * normaliser;
}

template <typename T>
__device__ void softmax(const T* x, int64_t stride, bool log, T* out, int n, Shared& shared) {
  const T* from = x + (int64_t)blockIdx.x * stride;
  T* to = out + (int64_t)blockIdx.x * n;
  const bool from_at_once = aligned(from), to_at_once = aligned(to);
  const int step = blockDim.x * PACK<T>;
  Exponentials all = {-INFINITY, 0.f};
  float part[PACK<T>];
  for (int column = threadIdx.x * PACK<T>; column < n; column += step) {
    load(part, from + column, n - column, from_at_once, -INFINITY);
    all = joined(all, exponentials(part));
  }
  all = join(all, Exponentials{-INFINITY, 0.f}, shared);
  const float normaliser = log ? logf(all.sum) : 1.f / all.sum;
  for (int column = threadIdx.x * PACK<T>; column < n; column += step) {
    load(part, from + column, n - column, from_at_once, 0.f);
    finish(part, all, log, normaliser);
    store(to + column, part, n - column, to_at_once);
  }
}

}  // namespace

#define SOFTMAX(T) \
  KERNEL __launch_bounds__(512) softmax_##T(const T* x, int64_t stride, int log, T* out, Count n) { \
    __shared__ Shared shared; \
    softmax(x, stride, log != 0, out, n, shared); \
  }

SOFTMAX(f32)
SOFTMAX(f16)
SOFTMAX(bf16)
