// Sums and maxima along an axis, in an order that the length of the axis alone decides, wherever its elements lie: a line is
// cut into parts of 256, whose elements i, i + 32, … are joined to 32, and those in halves; then the parts are joined like
// that. Each element is read once, the floor of memory. Contiguous lines are read by warps; of others neighbouring threads
// have neighbouring lines, and the 8 warps of a block share a part of 32 of them.
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

// A line of at most 32 elements.
template <typename A, typename T> __device__ A by_thread(int op, const T* line, int64_t stride, Count n) {
  A parts[32];
#pragma unroll
  for (int lane = 0; lane < 32; lane++) parts[lane] = lane < n ? joined(op, none(op, A()), (A)number(line[lane * stride])) : none(op, A());
  return halves<16>(op, parts);
}

// What one of the 8 warps of a block has of the parts of 32 lines: 4 of the 32 elements that a part is first joined to. A WHOLE
// part's loads wait for nothing.
constexpr int OWN = 4;
template <bool WHOLE, typename A, typename T>
__device__ void by_columns(int op, const T* part, int64_t stride, Count n, A (&own)[OWN]) {
#pragma unroll
  for (int i = 0; i < LENGTH; i += 32)
#pragma unroll
    for (int j = 0; j < OWN; j++) {
      const Count at = i + threadIdx.x / 32 * OWN + j;
      if (WHOLE || at < n) own[j] = joined(op, own[j], (A)number(part[at * stride]));
    }
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
  /* A thread a line. */ \
  KERNEL reduce_thread_##FROM##_##TO(int op, const FROM* x, View lines, Count extent, int64_t stride, TO* out, Count n) { \
    const Count line = index(); \
    if (line < n) out[line] = convert<TO>(by_thread<A>(op, x + place(lines, line), stride, extent)); \
  } \
  /* A block a part of 32 lines: out [parts, n]. */ \
  KERNEL __launch_bounds__(256) \
      reduce_columns_##FROM##_##TO(int op, const FROM* x, View lines, Count extent, int64_t stride, Count blocks, TO* out, \
                                   Count n) { \
    __shared__ A parts[32][32]; \
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32; \
    const Count line = blockIdx.x % blocks * 32 + lane, part = blockIdx.x / blocks; \
    const Count start = part * LENGTH, left = extent - start; \
    A own[OWN] = {none(op, A()), none(op, A()), none(op, A()), none(op, A())}; \
    if (line < n) { \
      x += place(lines, line) + start * stride; \
      if (left >= LENGTH) by_columns<true>(op, x, stride, left, own); \
      else by_columns<false>(op, x, stride, left, own); \
    } \
    for (int j = 0; j < OWN; j++) parts[warp * OWN + j][lane] = own[j]; \
    __syncthreads(); \
    if (warp > 0 || line >= n) return; \
    A all[32]; \
    for (int i = 0; i < 32; i++) all[i] = parts[i][lane]; \
    out[part * (int64_t)n + line] = convert<TO>(halves<16>(op, all)); \
  }

BY_LINES(f32, f32, float)
BY_LINES(f16, f16, float)
BY_LINES(bf16, bf16, float)
BY_LINES(i32, i32, int)
BY_LINES(f16, f32, float)
BY_LINES(bf16, f32, float)
BY_LINES(f32, f16, float)
BY_LINES(f32, bf16, float)
