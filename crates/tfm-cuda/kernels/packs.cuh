// Memory read and written in packs of 16 bytes, and reductions over the threads that share a row.
#pragma once
#include "common.cuh"

namespace {

// The elements of a pack.
template <typename T> constexpr int PACK = 16 / (int)sizeof(T);

__device__ bool aligned(const void* x) { return (reinterpret_cast<uintptr_t>(x) & 15) == 0; }

// The pack at `x`, of which `left` elements are there and the others are `otherwise`. Whether it is read at once or element by
// element, a thread has the same elements, so that sums have the same order wherever a row lies.
template <typename T> __device__ void load(float (&out)[PACK<T>], const T* x, int left, bool at_once, float otherwise) {
  if (at_once && left >= PACK<T>) {
    const uint4 bits = *reinterpret_cast<const uint4*>(x);
    const T* parts = reinterpret_cast<const T*>(&bits);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) out[i] = number(parts[i]);
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) out[i] = i < left ? number(x[i]) : otherwise;
  }
}

template <typename T> __device__ void store(T* out, const float (&x)[PACK<T>], int left, bool at_once) {
  if (at_once && left >= PACK<T>) {
    uint4 bits;
    T* parts = reinterpret_cast<T*>(&bits);
#pragma unroll
    for (int i = 0; i < PACK<T>; i++) parts[i] = convert<T>(x[i]);
    *reinterpret_cast<uint4*>(out) = bits;
  } else {
#pragma unroll
    for (int i = 0; i < PACK<T>; i++)
      if (i < left) out[i] = convert<T>(x[i]);
  }
}

// The first element of this thread's pack among `n` elements, and how many of the pack there are: 0 behind the end.
template <typename T> struct Place {
  Count first;
  int left;
  __device__ explicit Place(Count n) {
    const unsigned long long at = ((unsigned long long)blockIdx.x * blockDim.x + threadIdx.x) * PACK<T>;
    first = (Count)at;
    left = at >= n ? 0 : n - at < PACK<T> ? (int)(n - at) : PACK<T>;
  }
};

// Two sums at once.
struct Pair {
  float a, b;
};

// Σ exp(x - max) of some elements with the largest of them.
struct Exponentials {
  float max, sum;
};

__device__ float joined(float a, float b) { return a + b; }
__device__ Pair joined(Pair a, Pair b) { return {a.a + b.a, a.b + b.b}; }
__device__ Exponentials joined(Exponentials a, Exponentials b) {
  const float max = fmaxf(a.max, b.max);
  // Nothing but -∞ so far: 0, or NaN.
  if (max == -INFINITY) return {max, a.sum + b.sum};
  return {max, a.sum * expf(a.max - max) + b.sum * expf(b.max - max)};
}

// Those of a pack.
template <int N> __device__ Exponentials exponentials(const float (&x)[N]) {
  Exponentials all = {x[0], 0.f};
#pragma unroll
  for (int i = 1; i < N; i++) all.max = fmaxf(all.max, x[i]);
  const bool none = !(all.max > -INFINITY);
#pragma unroll
  for (int i = 0; i < N; i++) all.sum += !none ? expf(x[i] - all.max) : x[i] != x[i] ? x[i] : 0.f;
  return {none ? -INFINITY : all.max, all.sum};
}

__device__ float from_lane(float x, int lane) { return __shfl_xor_sync(0xffffffffu, x, lane); }
__device__ Pair from_lane(Pair x, int lane) { return {from_lane(x.a, lane), from_lane(x.b, lane)}; }

template <typename X> __device__ X warp_join(X x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x = joined(x, from_lane(x, lane));
  return x;
}

// The largest first, so that each thread rescales once.
__device__ Exponentials warp_join(Exponentials x) {
  const float max = warp_max(x.max);
  return {max, warp_join(max == -INFINITY ? x.sum : x.sum * expf(x.max - max))};
}

// Memory of a block for `join`: two floats a warp.
typedef Pair Shared[32];

// All threads' x joined, in an order that the size of the block decides. `none` is what changes nothing. The block is of any
// whole number of warps.
template <typename X> __device__ X join(X x, X none, Shared& shared) {
  static_assert(sizeof(X) <= sizeof(Pair), "");
  x = warp_join(x);
  if (blockDim.x == 32) return x;
  X* parts = reinterpret_cast<X*>(&shared);
  const int lane = threadIdx.x % 32;
  if (lane == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = warp_join(lane < blockDim.x / 32 ? parts[lane] : none);
  // The memory may be used again.
  __syncthreads();
  return x;
}

}  // namespace
