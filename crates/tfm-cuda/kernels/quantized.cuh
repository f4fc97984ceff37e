// Rows of 8-bit integers, x[i, p] ≈ scale(i)·q[i, p], as `quantized.rs` of the host allots them: the scales, then at a multiple of
// 128 bytes the rows, each filled up with zeros to a multiple of 16.
#pragma once
#include "common.cuh"

namespace {

struct Quantized {
  float* scales;
  int8_t* integers;
  int64_t width;  // bytes from row to row

  __device__ Quantized(unsigned char* memory, Count rows, Count columns)
      : scales(reinterpret_cast<float*>(memory)),
        integers(reinterpret_cast<int8_t*>(memory + ((int64_t)rows * 4 + 127) / 128 * 128)),
        width(((int64_t)columns + 15) / 16 * 16) {}
};

}  // namespace
