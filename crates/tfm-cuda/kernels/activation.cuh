// The activation functions and their derivatives, by their number in `Activation::ALL` of tfm-core.
#pragma once
#include "common.cuh"

namespace {

enum { RELU, GELU, GELU_TANH, SWISH, TANH };

template <int FUNCTION> __device__ float activate(float x) {
  if constexpr (FUNCTION == RELU) {
    return x > 0.f ? x : 0.f;
  } else if constexpr (FUNCTION == GELU) {
    return 0.5f * x * (1.f + erff(x * 0.707106781f));
  } else if constexpr (FUNCTION == GELU_TANH) {
    return 0.5f * x * (1.f + tanhf(0.797884561f * fmaf(x * x * x, 0.044715f, x)));
  } else if constexpr (FUNCTION == SWISH) {
    return x / (1.f + expf(-x));
  } else {
    return tanhf(x);
  }
}

template <int FUNCTION> __device__ float slope(float x) {
  if constexpr (FUNCTION == RELU) {
    return x > 0.f ? 1.f : 0.f;
  } else if constexpr (FUNCTION == GELU) {
    // Φ(x) + x·φ(x)
    return 0.5f + 0.5f * erff(x * 0.707106781f) + x * 0.398942280f * expf(-0.5f * x * x);
  } else if constexpr (FUNCTION == GELU_TANH) {
    const float square = x * x;
    const float tanh = tanhf(0.797884561f * fmaf(square * x, 0.044715f, x)), steep = 1.f - tanh * tanh;
    // Far out the slope of the tangent is 0, and that of its operand may be ∞.
    const float curve = steep > 0.f ? steep * 0.797884561f * fmaf(square, 0.134145f, 1.f) : 0.f;
    return 0.5f * x * curve + 0.5f * tanh + 0.5f;
  } else if constexpr (FUNCTION == SWISH) {
    // σ·(1 + x·(1 − σ)); σ is 0 where e⁻ˣ is ∞.
    const float sigmoid = 1.f / (1.f + expf(-x));
    return sigmoid * fmaf(x, 1.f - sigmoid, 1.f);
  } else {
    const float tanh = tanhf(x);
    return 1.f - tanh * tanh;
  }
}

}  // namespace
