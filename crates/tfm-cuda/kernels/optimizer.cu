// What an update needs beside gradients: their squared length, and Adam. Floor of memory: one read of the gradient; Adam reads
// four tensors and writes three, 28 bytes an element.
#include "packs.cuh"

namespace {

// Elements of a block, whatever the device: the order of the sum is always the same.
constexpr int CHUNK = 256 * 64;

template <typename T> __device__ void sum_of_squares(const T* x, float* sums, Count n, Shared& shared) {
  const unsigned long long first = (unsigned long long)blockIdx.x * CHUNK;
  const int elements = n - first < CHUNK ? (int)(n - first) : CHUNK;
  const bool at_once = aligned(x);
  float total = 0.f;
#pragma unroll 4
  for (int i = threadIdx.x * PACK<T>; i < elements; i += 256 * PACK<T>) {
    float part[PACK<T>];
    load(part, x + first + i, elements - i, at_once, 0.f);
#pragma unroll
    for (int j = 0; j < PACK<T>; j++) total = fmaf(part[j], part[j], total);
  }
  total = join(total, 0.f, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

}  // namespace

#define SUM_OF_SQUARES(T) \
  KERNEL __launch_bounds__(256) sum_of_squares_##T(const T* x, float* sums, Count n) { \
    __shared__ Shared shared; \
    sum_of_squares(x, sums, n, shared); \
  }

SUM_OF_SQUARES(f32)
SUM_OF_SQUARES(f16)
SUM_OF_SQUARES(bf16)

// `Adam` of tfm-core. A scale that is no number changes nothing.
KERNEL __launch_bounds__(256)
    adam(const float* gradient, const float* rates, const float* scale, float beta1, float rest1, float beta2,
         float rest2, float epsilon, float decay, float* parameter, float* first_moment, float* second_moment, Count n) {
  const Place<float> place(n);
  const float s = *scale;
  if (place.left == 0 || s != s) return;
  float g[4], p[4], m[4], v[4];
  load(g, gradient + place.first, place.left, aligned(gradient), 0.f);
  load(p, parameter + place.first, place.left, aligned(parameter), 0.f);
  load(m, first_moment + place.first, place.left, aligned(first_moment), 0.f);
  load(v, second_moment + place.first, place.left, aligned(second_moment), 0.f);
  const float rate = rates[0], correction1 = rates[1], correction2 = rates[2];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float here = g[i] * s;
    m[i] = beta1 * m[i] + rest1 * here;
    v[i] = beta2 * v[i] + rest2 * (here * here);
    const float direction = correction1 * m[i] / (sqrtf(correction2 * v[i]) + epsilon);
    p[i] -= rate * (direction + decay * p[i]);
  }
  store(parameter + place.first, p, place.left, aligned(parameter));
  store(first_moment + place.first, m, place.left, aligned(first_moment));
  store(second_moment + place.first, v, place.left, aligned(second_moment));
}
