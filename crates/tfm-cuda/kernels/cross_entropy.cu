// Cross-entropy with label smoothing, and its gradient. Forward a block has a row, which it reads once: maximum and sum of
// exponentials go together. The gradient replaces the logits, a pack a thread: one read and one write.
#include "packs.cuh"

namespace {

template <typename T>
__device__ void cross_entropy(const T* logits, int64_t stride, const i32* targets, float smoothing, float* loss,
                              float* log_sum_exp, int v, Shared& shared) {
  const Count row = blockIdx.x;
  const T* x = logits + row * stride;
  const bool at_once = aligned(x);
  // The mean is taken of differences from some logit, so that what all have in common costs no accuracy.
  const float first = number(x[0]), origin = isfinite(first) ? first : 0.f;
  Exponentials all = {-INFINITY, 0.f};
  float total = 0.f;
  for (int column = threadIdx.x * PACK<T>; column < v; column += blockDim.x * PACK<T>) {
    float part[PACK<T>];
    load(part, x + column, v - column, at_once, -INFINITY);
    all = joined(all, exponentials(part));
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) total += i < v - column ? part[i] - origin : 0.f;
  }
  all = join(all, Exponentials{-INFINITY, 0.f}, shared);
  total = join(total, 0.f, shared);
  if (threadIdx.x > 0) return;
  const float log_sum = logf(all.sum);
  const float of_target = all.max - number(x[(Count)targets[row] < v ? targets[row] : 0]) + log_sum;
  log_sum_exp[row] = all.max + log_sum;
  float y = (1.f - smoothing) * of_target;
  if (smoothing != 0.f) y += smoothing * (all.max - origin - total / v + log_sum);
  loss[row] = y;
}

// A pack of memory a thread, wherever rows begin: a pack may hold the end of one and the beginning of the next.
template <typename T>
__device__ void cross_entropy_gradient(T* logits, const i32* targets, const float* log_sum_exp, const float* d_loss,
                                       float smoothing, Count v, int64_t n) {
  const int before = (reinterpret_cast<uintptr_t>(logits) & 15) / sizeof(T);
  const int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T> - before;
  if (first >= n) return;
  const bool whole = first >= 0 && n - first >= PACK<T>;
  const int64_t start = first < 0 ? 0 : first;
  Count row = start / v, column = start - (int64_t)row * v;
  float x[PACK<T>];
  if (whole) {
    load(x, logits + first, PACK<T>, true, 0.f);
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) x[i] = first + i >= 0 && first + i < n ? number(logits[first + i]) : 0.f;
  }
  float log_sum = log_sum_exp[row], factor = d_loss[row], uniform = factor * smoothing / v;
  Count target = targets[row];
#pragma unroll
  for (int i = 0; i < PACK<T>; i++) {
    if (first + i < 0 || first + i >= n) continue;
    if (column == v) {
      row++, column = 0;
      log_sum = log_sum_exp[row], factor = d_loss[row], uniform = factor * smoothing / v;
      target = targets[row];
    }
    x[i] = factor * expf(x[i] - log_sum) - uniform;
    if (column == target) x[i] -= factor * (1.f - smoothing);
    column++;
  }
  if (whole) {
    store(logits + first, x, PACK<T>, true);
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++)
      if (first + i >= 0 && first + i < n) logits[first + i] = convert<T>(x[i]);
  }
}

}  // namespace

#define CROSS_ENTROPY(T) \
  KERNEL __launch_bounds__(512) \
      cross_entropy_##T(const T* logits, int64_t stride, const i32* targets, float smoothing, float* loss, \
                        float* log_sum_exp, Count v) { \
    __shared__ Shared shared; \
    cross_entropy(logits, stride, targets, smoothing, loss, log_sum_exp, v, shared); \
  } \
  KERNEL __launch_bounds__(256) \
      cross_entropy_gradient_##T(T* logits, const i32* targets, const float* log_sum_exp, const float* d_loss, \
                                 float smoothing, Count v, int64_t n) { \
    cross_entropy_gradient(logits, targets, log_sum_exp, d_loss, smoothing, v, n); \
  }

CROSS_ENTROPY(f32)
CROSS_ENTROPY(f16)
CROSS_ENTROPY(bf16)
