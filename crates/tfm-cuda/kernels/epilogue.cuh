// What follows a product's sums.
#pragma once
#include "common.cuh"

namespace {

// `Activation` of tfm-core, counted from 1. What is not a number stays so.
__device__ float activate(int activation, float x) {
  switch (activation) {
    case 1: return x < 0.f ? 0.f : x;
    case 2: return 0.5f * x * (1.f + erff(x * 0.70710678118654752f));
    case 3: return 0.5f * x * (1.f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case 4: return x / (1.f + expf(-x));
    case 5: return tanhf(x);
    default: return x;
  }
}

// activation(x + bias) + residual. Bias and residual may be null; the residual's rows are `distance` apart.
template <typename T> struct Epilogue {
  const T* bias;
  int activation;
  const T* residual;
  int64_t distance;

  __device__ T operator()(float x, Count row, Count column) const {
    if (bias) x += number(bias[column]);
    x = activate(activation, x);
    if (residual) x += number(residual[row * distance + column]);
    return convert<T>(x);
  }
};

}  // namespace
