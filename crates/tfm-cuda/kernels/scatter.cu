// Sums of rows by their ids, each in the order of its sources: the gradient of an embedding. The sources of an id are counted, get
// a place in a list, and are put there, in three launches over the ids; then a block a row of the result reads its list.
//
// Floor of memory: one read of the sources and one write of the result. The lists cost 16 bytes an id and 8 a row beside it.
#include "common.cuh"

namespace {

constexpr int THREADS = 128;
// A list up to this is put in order by comparing all its members; of a longer one all ids are looked through, in order. So
// neither costs more than LIST comparisons a source.
constexpr int LIST = 256;
// Columns of a thread while it looks through the ids.
constexpr int COLUMNS = 4;

__device__ float sum(float a, float b) { return a + b; }
__device__ int sum(int a, int b) { return (int)((unsigned)a + (unsigned)b); }

// Adds rows of x, listed in shared memory, to this thread's column.
template <typename A, typename T>
__device__ A add(A total, const T* x, int64_t stride, const Count* list, int n) {
#pragma unroll 4
  for (int i = 0; i < n; i++) total = sum(total, (A)number(x[list[i] * stride]));
  return total;
}

}  // namespace

// counts [rows + 1] are 0 before. slots [n]: the place of each source among those of its id, in any order.
KERNEL scatter_count(const i32* ids, Count* counts, Count* slots, Count rows, Count n) {
  const Count i = index();
  if (i < n && (Count)ids[i] < rows) slots[i] = atomicAdd(&counts[ids[i]], 1u);
}

// The first place of each row's list, in any order. counts[rows] is 0 before.
KERNEL scatter_allot(Count* counts, Count* starts, Count rows) {
  const Count row = index();
  if (row >= rows) return;
  const Count count = counts[row];
  if (count > 0) starts[row] = atomicAdd(&counts[rows], count);
}

KERNEL scatter_list(const i32* ids, const Count* starts, const Count* slots, Count* lists, Count rows, Count n) {
  const Count i = index();
  if (i < n && (Count)ids[i] < rows) lists[starts[ids[i]] + slots[i]] = i;
}

#define SCATTER(T, A) \
  KERNEL __launch_bounds__(THREADS) \
      scatter_add_##T(const T* x, int64_t stride, const i32* ids, const Count* counts, const Count* starts, \
                      const Count* lists, T* out, Count width, Count n) { \
    __shared__ Count found[LIST], list[LIST]; \
    __shared__ int of_warps[THREADS / 32]; \
    const Count row = blockIdx.x, count = counts[row]; \
    out += (int64_t)row * width; \
    if (count <= LIST) { \
      for (Count i = threadIdx.x; i < count; i += THREADS) found[i] = lists[starts[row] + i]; \
      __syncthreads(); \
      for (Count i = threadIdx.x; i < count; i += THREADS) { \
        int before = 0; \
        for (Count j = 0; j < count; j++) before += found[j] < found[i]; \
        list[before] = found[i]; \
      } \
      __syncthreads(); \
      for (Count column = threadIdx.x; column < width; column += THREADS) \
        out[column] = convert<T>(add<A>(A(0), x + column, stride, list, count)); \
      return; \
    } \
    for (Count first = threadIdx.x; first < width + threadIdx.x; first += COLUMNS * THREADS) { \
      A totals[COLUMNS] = {}; \
      for (Count start = 0; start < n; start += THREADS) { \
        const Count i = start + threadIdx.x; \
        const bool ours = i < n && (Count)ids[i] == row; \
        const unsigned in_warp = __ballot_sync(0xffffffffu, ours); \
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32; \
        if (lane == 0) of_warps[warp] = __popc(in_warp); \
        __syncthreads(); \
        int before = __popc(in_warp & ((1u << lane) - 1)), all = 0; \
        for (int w = 0; w < THREADS / 32; w++) { \
          if (w < warp) before += of_warps[w]; \
          all += of_warps[w]; \
        } \
        if (ours) list[before] = i; \
        __syncthreads(); \
        _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) \
          if (first + c * THREADS < width) \
            totals[c] = add<A>(totals[c], x + first + c * THREADS, stride, list, all); \
      } \
      _Pragma("unroll") for (int c = 0; c < COLUMNS; c++) \
        if (first + c * THREADS < width) out[first + c * THREADS] = convert<T>(totals[c]); \
    } \
  }

SCATTER(f32, float)
SCATTER(f16, float)
SCATTER(bf16, float)
SCATTER(i32, int)
