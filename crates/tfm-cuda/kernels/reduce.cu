// Sums and maxima along an axis, in an order that the length of the axis alone decides, wherever its elements lie: a line is
// cut into parts of 256, whose elements i, i + 32, … are joined to 32, and those in halves; then the parts are joined like
// that. Each element is read once, the floor of memory. Contiguous lines are read by warps; of others neighbouring threads
// have neighbouring lines.
#include "common.cuh"

namespace {

__device__ float joined(int op, float a, float b) { return op == 0 ? a + b : b > a ? b : a; }
__device__ int joined(int op, int a, int b) { return op == 0 ? (int)((unsigned)a + (unsigned)b) : max(a, b); }
__device__ float none(int op, float) { return op == 0 ? 0.f : -INFINITY; }
__device__ int none(int op, int) { return op == 0 ? 0 : INT32_MIN; }

template <typename A> __device__ A over_warp(int op, A x) {
#pragma unroll
  for (int lane = 16; lane > 0; lane /= 2) x = joined(op, x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}

// A part: `n` elements, at most LENGTH.
constexpr Count LENGTH = 256;

template <typename A, typename T> __device__ A by_warp(int op, const T* part, Count n) {
  A all = none(op, A());
#pragma unroll
  for (int i = 0; i < LENGTH; i += 32)
    if (i + threadIdx.x % 32 < n) all = joined(op, all, (A)number(part[i + threadIdx.x % 32]));
  return over_warp(op, all);
}

// The first of `parts` with all others: lane + HALF to lane, and so on.
template <int HALF, typename A> __device__ A halves(int op, A (&parts)[32]) {
#pragma unroll
  for (int lane = 0; lane < HALF; lane++) parts[lane] = joined(op, parts[lane], parts[lane + HALF]);
  if constexpr (HALF > 1) return halves<HALF / 2>(op, parts);
  return parts[0];
}

template <typename A, typename T> __device__ A by_thread(int op, const T* part, int64_t stride, Count n) {
  A parts[32];
#pragma unroll
  for (int lane = 0; lane < 32; lane++) parts[lane] = none(op, A());
#pragma unroll 1
  for (int i = 0; i < n; i += 32)
#pragma unroll
    for (int lane = 0; lane < 32; lane++)
      if (i + lane < n) parts[lane] = joined(op, parts[lane], (A)number(part[(i + lane) * stride]));
  return halves<16>(op, parts);
}

}  // namespace

// op 0: sum, 1: maximum. `lines` has extent 1 at the axis; n is the number of lines.
#define BY_LINES(FROM, TO, A) \
  /* A warp a line of one part. */ \
  KERNEL reduce_warp_##FROM##_##TO(int op, const FROM* x, View lines, Count extent, TO* out, Count n) { \
    const Count line = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; \
    if (line >= n) return; \
    const A all = by_warp<A>(op, x + place(lines, line), extent); \
    if (threadIdx.x % 32 == 0) out[line] = convert<TO>(all); \
  } \
  /* A block for 256 parts of a line, joined: out [n, segments]. */ \
  KERNEL __launch_bounds__(256) \
      reduce_block_##FROM##_##TO(int op, const FROM* x, View lines, Count extent, Count segments, TO* out) { \
    __shared__ A parts[LENGTH]; \
    const Count line = blockIdx.x / segments, start = blockIdx.x % segments * (LENGTH * LENGTH); \
    const Count here = min(extent - start, LENGTH * LENGTH), count = (here + LENGTH - 1) / LENGTH; \
    x += place(lines, line) + start; \
    for (Count part = threadIdx.x / 32; part < count; part += 8) { \
      const A all = by_warp<A>(op, x + part * LENGTH, here - part * LENGTH); \
      if (threadIdx.x % 32 == 0) parts[part] = all; \
    } \
    __syncthreads(); \
    if (threadIdx.x >= 32) return; \
    const A all = by_warp<A>(op, parts, count); \
    if (threadIdx.x == 0) out[blockIdx.x] = convert<TO>(all); \
  } \
  /* A thread a line and part: out [parts, n]. */ \
  KERNEL reduce_thread_##FROM##_##TO(int op, const FROM* x, View lines, Count extent, int64_t stride, Count blocks, \
                                     TO* out, Count n) { \
    const Count line = blockIdx.x % blocks * blockDim.x + threadIdx.x, part = blockIdx.x / blocks; \
    if (line >= n) return; \
    const Count start = part * LENGTH; \
    const A all = by_thread<A>(op, x + place(lines, line) + start * stride, stride, min(extent - start, LENGTH)); \
    out[part * (int64_t)n + line] = convert<TO>(all); \
  }

BY_LINES(f32, f32, float)
BY_LINES(f16, f16, float)
BY_LINES(bf16, bf16, float)
BY_LINES(i32, i32, int)
BY_LINES(f16, f32, float)
BY_LINES(bf16, f32, float)
BY_LINES(f32, f16, float)
BY_LINES(f32, bf16, float)
