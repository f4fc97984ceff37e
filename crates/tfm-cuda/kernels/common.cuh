// What all kernels share: element types, strided operands, random numbers, sums over a warp.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#define KERNEL extern "C" __global__ void

constexpr int AXES = 8;

// Where the elements of an operand lie; `Layout` of tfm-core.
struct View {
  int axes;
  int shape[AXES];
  long long strides[AXES];
  long long offset;
};

namespace {

typedef float f32;
typedef __half f16;
typedef __nv_bfloat16 bf16;
typedef int i32;

// Numbers of elements: the host refuses more than 2^32 - 1.
typedef uint32_t Count;

// The position of element `i`, counted row-major, of the axes from FIRST on. The axes are known at compile time: an index that is
// not puts the view on the stack, whose memory costs more than the element's.
template <int FIRST = 0> __device__ long long place(const View& view, Count i) {
  long long at = FIRST == 0 ? view.offset : 0;
#pragma unroll
  for (int axis = AXES - 1; axis > FIRST; axis--) {
    if (axis >= view.axes) continue;
    const Count extent = view.shape[axis], rest = i / extent;
    at += (i - rest * extent) * view.strides[axis];
    i = rest;
  }
  return FIRST < view.axes ? at + i * view.strides[FIRST] : at;
}

// The element of this thread. The last blocks of 2^32 - 1 elements would count on from 0.
__device__ Count index() {
  const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
  return i > UINT32_MAX ? UINT32_MAX : (Count)i;
}

__device__ float number(f32 x) { return x; }
__device__ float number(f16 x) { return __half2float(x); }
__device__ float number(bf16 x) { return __bfloat162float(x); }
__device__ int number(i32 x) { return x; }

template <typename To, typename From> __device__ To convert(From x);
template <> __device__ f32 convert(f32 x) { return x; }
template <> __device__ f16 convert(f32 x) { return __float2half_rn(x); }
template <> __device__ bf16 convert(f32 x) { return __float2bfloat16_rn(x); }
template <> __device__ i32 convert(f32 x) { return __float2int_rz(x); }
template <> __device__ f32 convert(i32 x) { return __int2float_rn(x); }
template <> __device__ f16 convert(i32 x) { return __int2half_rn(x); }
template <> __device__ bf16 convert(i32 x) { return __int2bfloat16_rn(x); }
template <> __device__ i32 convert(i32 x) { return x; }

// Random123's Philox4x32-10, the words of one block; `philox` of tfm-core.
__device__ uint4 philox(uint32_t k0, uint32_t k1, uint32_t step, uint32_t stream, Count block) {
  uint4 c = {block, 0, step, stream};
#pragma unroll
  for (int round = 0; round < 10; round++) {
    if (round > 0) k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    const uint32_t high0 = __umulhi(0xD2511F53u, c.x), low0 = 0xD2511F53u * c.x;
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c.z), low1 = 0xCD9E8D57u * c.z;
    c = {high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0};
  }
  return c;
}

// A word as a number in [0, 1).
__device__ float unit(uint32_t word) { return (word >> 8) * (1.f / 16777216.f); }

// The number at a position: a quarter of a block.
__device__ float uniform(uint32_t k0, uint32_t k1, uint32_t step, uint32_t stream, Count position) {
  const uint4 c = philox(k0, k1, step, stream, position / 4);
  const int part = position % 4;
  return unit(part == 0 ? c.x : part == 1 ? c.y : part == 2 ? c.z : c.w);
}

__device__ float warp_sum(float x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ float warp_max(float x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}

}  // namespace
