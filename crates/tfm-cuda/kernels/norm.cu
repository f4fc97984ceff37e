// Layer normalisation, RMS normalisation and their gradients: a block a row, 16 elements a thread, which stay in registers from
// the first sum to the result. What is not CENTRED is RMS normalisation: it has no mean, and no bias.
//
// Floor of memory: forward one read of x and one write of y; gradient one read of x and dy and one write of dx, and of the
// sums over the rows of each block.
#include "packs.cuh"

namespace {

constexpr int ELEMENTS = 16;

// What a thread has of a row.
template <typename T> struct Part {
  static constexpr int PACKS = ELEMENTS / PACK<T>;
  float x[PACKS][PACK<T>];

  // Its column of a pack.
  __device__ static int column(int pack) { return (pack * blockDim.x + threadIdx.x) * PACK<T>; }

  __device__ void read(const T* row, int d) {
    const bool at_once = aligned(row);
#pragma unroll
    for (int p = 0; p < PACKS; p++) load(x[p], row + column(p), d - column(p), at_once, 0.f);
  }

  // x becomes (x - mean)/√(variance + ε), 0 behind the end; the result is 1/√(variance + ε).
  template <bool CENTRED> __device__ float normalise(int d, float epsilon, Shared& shared) {
    float squares = 0.f, mean = 0.f;
    if (CENTRED) {
      float total = 0.f;
#pragma unroll
      for (int p = 0; p < PACKS; p++)
#pragma unroll
        for (int i = 0; i < PACK<T>; i++) total += x[p][i];
      mean = join(total, 0.f, shared) / d;
    }
#pragma unroll
    for (int p = 0; p < PACKS; p++)
#pragma unroll
      for (int i = 0; i < PACK<T>; i++) {
        if (CENTRED) x[p][i] = i < d - column(p) ? x[p][i] - mean : 0.f;
        squares += x[p][i] * x[p][i];
      }
    const float factor = 1.f / sqrtf(join(squares, 0.f, shared) / d + epsilon);
#pragma unroll
    for (int p = 0; p < PACKS; p++)
#pragma unroll
      for (int i = 0; i < PACK<T>; i++) x[p][i] *= factor;
    return factor;
  }
};

template <bool CENTRED, typename T>
__device__ void norm(const T* x, int64_t stride, const T* weight, const T* bias, float epsilon, T* out, int d,
                     Shared& shared) {
  const Count row = blockIdx.x;
  Part<T> part;
  part.read(x + row * stride, d);
  part.template normalise<CENTRED>(d, epsilon, shared);
  T* y = out + (int64_t)row * d;
  const bool y_at_once = aligned(y), weight_at_once = aligned(weight), bias_at_once = aligned(bias);
#pragma unroll
  for (int p = 0; p < Part<T>::PACKS; p++) {
    const int column = Part<T>::column(p), left = d - column;
    if (left <= 0) break;
    float w[PACK<T>], b[PACK<T>] = {};
    load(w, weight + column, left, weight_at_once, 0.f);
    if (CENTRED) load(b, bias + column, left, bias_at_once, 0.f);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) b[i] = fmaf(part.x[p][i], w[i], b[i]);
    store(y + column, b, left, y_at_once);
  }
}

// `rows_each` rows a block, one after the other; then the block's sums for the weight and, if there is one, the bias: sums
// [blocks, 2 or 1, d].
template <bool CENTRED, typename T>
__device__ void norm_gradient(const T* x, int64_t x_stride, const T* weight, const T* dy, int64_t dy_stride, float epsilon,
                              T* dx, float* sums, int d, Count rows, Count rows_each, Shared& shared) {
  typedef Part<T> Own;
  float for_weight[Own::PACKS][PACK<T>] = {}, for_bias[Own::PACKS][PACK<T>] = {};
  const bool weight_at_once = aligned(weight);
  const Count first = blockIdx.x * rows_each;
#pragma unroll 1
  for (Count row = first; row < rows && row - first < rows_each; row++) {
    Own normal, g;
    normal.read(x + row * x_stride, d);
    g.read(dy + row * dy_stride, d);
    const float factor = normal.template normalise<CENTRED>(d, epsilon, shared);
    Pair means = {0.f, 0.f};
#pragma unroll
    for (int p = 0; p < Own::PACKS; p++) {
      const int column = Own::column(p);
      float w[PACK<T>];
      load(w, weight + column, d - column, weight_at_once, 0.f);
#pragma unroll
      for (int e = 0; e < PACK<T>; e++) {
        for_weight[p][e] = fmaf(g.x[p][e], normal.x[p][e], for_weight[p][e]);
        if (CENTRED) for_bias[p][e] += g.x[p][e];
        g.x[p][e] *= w[e];
        if (CENTRED) means.a += g.x[p][e];
        means.b = fmaf(g.x[p][e], normal.x[p][e], means.b);
      }
    }
    means = join(means, Pair{0.f, 0.f}, shared);
    const float g_mean = means.a / d, product_mean = means.b / d;
    T* out = dx + (int64_t)row * d;
    const bool at_once = aligned(out);
#pragma unroll
    for (int p = 0; p < Own::PACKS; p++) {
      const int column = Own::column(p);
      if (column >= d) break;
#pragma unroll
      for (int e = 0; e < PACK<T>; e++)
        g.x[p][e] = (g.x[p][e] - g_mean - normal.x[p][e] * product_mean) * factor;
      store(out + column, g.x[p], d - column, at_once);
    }
  }
  float* own = sums + (int64_t)blockIdx.x * (CENTRED ? 2 : 1) * d;
  const bool at_once = aligned(own) && d % 4 == 0;
#pragma unroll
  for (int p = 0; p < Own::PACKS; p++)
#pragma unroll
    for (int e = 0; e < PACK<T>; e += 4) {
      const int column = Own::column(p) + e;
      const float w[4] = {for_weight[p][e], for_weight[p][e + 1], for_weight[p][e + 2], for_weight[p][e + 3]};
      store(own + column, w, d - column, at_once);
      if (!CENTRED) continue;
      const float b[4] = {for_bias[p][e], for_bias[p][e + 1], for_bias[p][e + 2], for_bias[p][e + 3]};
      store(own + d + column, b, d - column, at_once);
    }
}

}  // namespace

#define NORM(T) \
  KERNEL layer_norm_##T(const T* x, int64_t stride, const T* weight, const T* bias, float epsilon, T* out, Count d) { \
    __shared__ Shared shared; \
    norm<true>(x, stride, weight, bias, epsilon, out, d, shared); \
  } \
  KERNEL rms_norm_##T(const T* x, int64_t stride, const T* weight, float epsilon, T* out, Count d) { \
    __shared__ Shared shared; \
    norm<false>(x, stride, weight, (const T*)nullptr, epsilon, out, d, shared); \
  } \
  GRADIENT(layer_norm, T, true) \
  GRADIENT(rms_norm, T, false)

#define GRADIENT(NAME, T, CENTRED) \
  KERNEL __launch_bounds__(512) \
      NAME##_gradient_##T(const T* x, int64_t x_stride, const T* weight, const T* dy, int64_t dy_stride, float epsilon, \
                          T* dx, float* sums, Count d, Count rows, Count rows_each) { \
    __shared__ Shared shared; \
    norm_gradient<CENTRED>(x, x_stride, weight, dy, dy_stride, epsilon, dx, sums, d, rows, rows_each, shared); \
  }

NORM(f32)
NORM(f16)
NORM(bf16)
