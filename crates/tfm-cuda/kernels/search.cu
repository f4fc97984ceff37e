// The k largest of each row, and those of its log softmax: a block a row. Each thread keeps the best 8 of its elements, a warp
// chooses the best 8 of its threads', and the first warp those of the warps. More than 8 are found 8 at a time, each time
// behind the last.
//
// Floor of memory: one read of the row, the softmax's sums included; more than 8 read it again, from the cache.
#include "packs.cuh"

namespace {

constexpr int BEST = 8;

template <typename Key> struct Candidate {
  Key key;
  int id;
  __device__ bool beats(const Candidate& other) const {
    return key > other.key || (key == other.key && id < other.id);
  }
};

__device__ float lowest(float) { return -INFINITY; }
__device__ int lowest(int) { return INT32_MIN; }
// Beats all elements.
__device__ Candidate<float> first(float) { return {INFINITY, -1}; }
__device__ Candidate<int> first(int) { return {INT32_MAX, -1}; }
// NaN ranks last.
__device__ float ranked(float x) { return x != x ? -INFINITY : x; }
__device__ int ranked(int x) { return x; }

// Candidates, the best first.
template <typename Key> struct Best {
  Candidate<Key> list[BEST];

  __device__ Best() {
#pragma unroll
    for (int j = 0; j < BEST; j++) list[j] = {lowest(Key()), INT32_MAX};
  }

  // Takes in what belongs to the best of a pack, of which the elements of the mask `open` count. All lanes of a warp call it
  // at once: each 4 lanes have an element that is at least `floor`, so what is below is none of the warp's best 8.
  template <int N> __device__ void offer(const Key (&keys)[N], int first, unsigned open) {
    Key floor = list[0].key;
#pragma unroll
    for (int i = 0; i < N; i++) floor = (open >> i & 1) && keys[i] > floor ? keys[i] : floor;
#pragma unroll
    for (int lane = 1; lane < 32; lane *= 2) {
      const Key other = __shfl_xor_sync(0xffffffffu, floor, lane);
      floor = (lane < 4) == (other > floor) ? other : floor;
    }
#pragma unroll
    for (int i = 0; i < N; i++) open &= ~((unsigned)(keys[i] < floor) << i);
#pragma unroll 1
    while (open != 0) {
      Candidate<Key> top = {lowest(Key()), INT32_MAX};
#pragma unroll
      for (int i = 0; i < N; i++) {
        const Candidate<Key> here = {keys[i], first + i};
        if ((open >> i & 1) && here.beats(top)) top = here;
      }
      if (!top.beats(list[BEST - 1])) return;
      take(top);
      open &= ~(1u << (top.id - first));
    }
  }

  __device__ void take(Candidate<Key> one) {
    list[BEST - 1] = one;
#pragma unroll
    for (int j = BEST - 1; j > 0; j--) {
      const Candidate<Key> above = list[j - 1], here = list[j];
      const bool up = here.beats(above);
      list[j - 1] = up ? here : above;
      list[j] = up ? above : here;
    }
  }

  // The best of all lanes: lane j gets the j-th. Lists lose theirs.
  __device__ Candidate<Key> choose(int k) {
    Candidate<Key> mine = {lowest(Key()), INT32_MAX};
    for (int j = 0; j < k; j++) {
      Candidate<Key> best = list[0];
#pragma unroll
      for (int lane = 16; lane > 0; lane /= 2) {
        const Candidate<Key> other = {__shfl_xor_sync(0xffffffffu, best.key, lane),
                                      __shfl_xor_sync(0xffffffffu, best.id, lane)};
        if (other.beats(best)) best = other;
      }
      if (list[0].id == best.id) {
#pragma unroll
        for (int i = 0; i + 1 < BEST; i++) list[i] = list[i + 1];
        list[BEST - 1] = {lowest(Key()), INT32_MAX};
      }
      if (threadIdx.x % 32 == j) mine = best;
    }
    return mine;
  }
};

// The best k ≤ 8 of the threads' lists: lane j of the first warp gets the j-th.
template <typename Key>
__device__ Candidate<Key> choose(Best<Key>& best, int k, Candidate<Key> (&of_warps)[16][BEST]) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Candidate<Key> mine = best.choose(k);
  if (lane < BEST) of_warps[warp][lane] = mine;
  __syncthreads();
  Candidate<Key> chosen = mine;
  if (warp == 0) {
    Best<Key> all;
    if (lane < blockDim.x / 32) {
#pragma unroll
      for (int j = 0; j < BEST; j++) all.list[j] = of_warps[lane][j];
    }
    chosen = all.choose(k);
  }
  return chosen;
}

__device__ void load_keys(float (&out)[4], const f32* x, int left, bool at_once) { load(out, x, left, at_once, 0.f); }
__device__ void load_keys(float (&out)[8], const f16* x, int left, bool at_once) { load(out, x, left, at_once, 0.f); }
__device__ void load_keys(float (&out)[8], const bf16* x, int left, bool at_once) { load(out, x, left, at_once, 0.f); }
__device__ void load_keys(int (&out)[4], const i32* x, int left, bool) {
#pragma unroll
  for (int i = 0; i < 4; i++) out[i] = i < left ? x[i] : 0;
}

template <typename Key, typename T>
__device__ void top_k(const T* x, int64_t stride, T* values, i32* indices, int columns, int k,
                      Candidate<Key> (&of_warps)[16][BEST], Candidate<Key>& handed_on) {
  const Count row = blockIdx.x;
  x += row * stride;
  const bool at_once = aligned(x);
  Candidate<Key> last = first(Key());
  for (int done = 0; done < k; done += BEST) {
    Best<Key> best;
    for (int start = 0; start < columns; start += blockDim.x * PACK<T>) {
      const int column = start + threadIdx.x * PACK<T>;
      Key part[PACK<T>];
      load_keys(part, x + column, columns - column, at_once);
      unsigned open = 0;
#pragma unroll
      for (int i = 0; i < PACK<T>; i++) {
        part[i] = ranked(part[i]);
        const Candidate<Key> here = {part[i], column + i};
        open |= (unsigned)(i < columns - column && (done == 0 || last.beats(here))) << i;
      }
      best.offer(part, column, open);
    }
    const int wanted = min(BEST, k - done);
    const Candidate<Key> mine = choose(best, wanted, of_warps);
    if (threadIdx.x < wanted) {
      values[(int64_t)row * k + done + threadIdx.x] = x[mine.id];
      indices[(int64_t)row * k + done + threadIdx.x] = mine.id;
    }
    if (threadIdx.x == wanted - 1) handed_on = mine;
    __syncthreads();
    last = handed_on;
    // The memory may be used again.
    __syncthreads();
  }
}

template <typename T>
__device__ void top_log_probabilities(const T* x, int64_t stride, const T* bias, T* values, i32* ids, int columns, int k,
                                      Shared& shared, Candidate<float> (&of_warps)[16][BEST],
                                      Candidate<float>& handed_on) {
  const Count row = blockIdx.x;
  x += row * stride;
  const bool at_once = aligned(x), bias_at_once = aligned(bias);
  Exponentials all = {-INFINITY, 0.f};
  Candidate<float> last = first(0.f);
  for (int done = 0; done < k; done += BEST) {
    Best<float> best;
    for (int start = 0; start < columns; start += blockDim.x * PACK<T>) {
      const int column = start + threadIdx.x * PACK<T>;
      float part[PACK<T>], more[PACK<T>];
      load(part, x + column, columns - column, at_once, -INFINITY);
      load(more, bias + column, columns - column, bias_at_once, 0.f);
      if (done == 0) all = joined(all, exponentials(part));
      unsigned open = 0;
#pragma unroll
      for (int i = 0; i < PACK<T>; i++) {
        part[i] = ranked(part[i] + more[i]);
        const Candidate<float> here = {part[i], column + i};
        open |= (unsigned)(i < columns - column && (done == 0 || last.beats(here))) << i;
      }
      best.offer(part, column, open);
    }
    if (done == 0) all = join(all, Exponentials{-INFINITY, 0.f}, shared);
    const int wanted = min(BEST, k - done);
    const Candidate<float> mine = choose(best, wanted, of_warps);
    if (threadIdx.x < 32) {
      // As the log softmax rounds; two that differed by less than that go by their ids.
      const bool has = threadIdx.x < wanted;
      float value = -INFINITY;
      if (has) value = number(x[mine.id]) - all.max - logf(all.sum) + number(bias[mine.id]);
      const Candidate<float> own = {ranked(value), mine.id};
      int rank = 0;
#pragma unroll
      for (int lane = 0; lane < BEST; lane++) {
        const Candidate<float> other = {__shfl_sync(0xffffffffu, own.key, lane), __shfl_sync(0xffffffffu, own.id, lane)};
        rank += lane < wanted && other.beats(own);
      }
      if (has) {
        values[(int64_t)row * k + done + rank] = convert<T>(value);
        ids[(int64_t)row * k + done + rank] = mine.id;
      }
    }
    if (threadIdx.x == wanted - 1) handed_on = mine;
    __syncthreads();
    last = handed_on;
    // The memory may be used again.
    __syncthreads();
  }
}

}  // namespace

#define TOP_K(T, KEY) \
  KERNEL __launch_bounds__(512) \
      top_k_##T(const T* x, int64_t stride, T* values, i32* indices, Count columns, Count k) { \
    __shared__ Candidate<KEY> of_warps[16][BEST]; \
    __shared__ Candidate<KEY> handed_on; \
    top_k<KEY, T>(x, stride, values, indices, columns, k, of_warps, handed_on); \
  }

TOP_K(f32, float)
TOP_K(f16, float)
TOP_K(bf16, float)
TOP_K(i32, int)

#define TOP_LOG_PROBABILITIES(T) \
  KERNEL __launch_bounds__(512) \
      top_log_probabilities_##T(const T* x, int64_t stride, const T* bias, T* values, i32* ids, Count columns, Count k) { \
    __shared__ Shared shared; \
    __shared__ Candidate<float> of_warps[16][BEST]; \
    __shared__ Candidate<float> handed_on; \
    top_log_probabilities<T>(x, stride, bias, values, ids, columns, k, shared, of_warps, handed_on); \
  }

TOP_LOG_PROBABILITIES(f32)
TOP_LOG_PROBABILITIES(f16)
TOP_LOG_PROBABILITIES(bf16)
