// The k largest of each row, those of its log softmax, and those of logits with bans: a block a row. In a first pass each thread
// finds the largest of its elements, and the softmax's sums. So many as are wanted are at least as large as the wanted-th of those; a
// thread that has nothing as large is done. The others, about as many as are wanted, look for the best 8 of their elements,
// of which their warp chooses 8, and the first warp those of the warps. More than 8 are found 8 at a time, each time behind the
// last.
//
// Floor of memory: one read of the row; more than 8 read it again, from the cache.
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

  __device__ void take(Candidate<Key> one) {
    if (!one.beats(list[BEST - 1])) return;
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

__device__ void load_keys(float (&out)[4], const f32* x, int left, bool at_once) { load(out, x, left, at_once, -INFINITY); }
__device__ void load_keys(float (&out)[8], const f16* x, int left, bool at_once) { load(out, x, left, at_once, -INFINITY); }
__device__ void load_keys(float (&out)[8], const bf16* x, int left, bool at_once) { load(out, x, left, at_once, -INFINITY); }
__device__ void load_keys(int (&out)[4], const i32* x, int left, bool) {
#pragma unroll
  for (int i = 0; i < 4; i++) out[i] = i < left ? x[i] : 0;
}

// What is added to a pack, of the row's type or of f32.
template <typename T> __device__ void load_bias(float (&out)[PACK<T>], const T* x, int left, bool at_once) {
  load(out, x, left, at_once, 0.f);
}
template <int N> __device__ void load_bias(float (&out)[N], const f32* x, int left, bool at_once) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    float four[4];
    load(four, x + i, left - i, at_once, 0.f);
#pragma unroll
    for (int j = 0; j < 4; j++) out[i + j] = four[j];
  }
}

// A row that is compared as it is.
template <typename T, typename Key> struct Plain {
  typedef Key Compared;
  static constexpr int N = PACK<T>;
  const T* x;
  int columns;
  bool at_once;
  __device__ Plain(const T* row, int n) : x(row), columns(n), at_once(aligned(row)) {}
  __device__ void read(Key (&keys)[N], int column, bool) {
    load_keys(keys, x + column, columns - column, at_once);
#pragma unroll
    for (int i = 0; i < N; i++) keys[i] = ranked(keys[i]);
  }
};

// A row with a bias, and of the row without it, if it is LOG, what its softmax needs.
template <typename T, typename Bias, bool LOG> struct Biased {
  typedef float Compared;
  static constexpr int N = PACK<T>;
  const T* x;
  const Bias* bias;
  int columns;
  bool at_once, bias_at_once;
  Exponentials all;
  __device__ Biased(const T* row, const Bias* added, int n)
      : x(row), bias(added), columns(n), at_once(aligned(row)), bias_at_once(aligned(added)), all({-INFINITY, 0.f}) {}
  __device__ void read(float (&keys)[N], int column, bool counts) {
    float more[N];
    load_keys(keys, x + column, columns - column, at_once);
    load_bias(more, bias + column, columns - column, bias_at_once);
    if (LOG && counts) all = joined(all, exponentials(keys));
#pragma unroll
    for (int i = 0; i < N; i++) keys[i] = ranked(keys[i] + more[i]);
  }
};

// The `wanted` best of a row behind `last`, or, before any is found, of all: lane j of the first warp gets the j-th.
template <typename Row, typename Key = typename Row::Compared>
__device__ Candidate<Key> best_behind(Row& row, Candidate<Key> last, bool none_yet, int wanted,
                                      Candidate<Key> (&of_warps)[16][BEST], Candidate<Key>& handed_on) {
  constexpr int N = Row::N;
  const int step = blockDim.x * N;
  Key most = lowest(Key());
  for (int column = threadIdx.x * N; column < row.columns; column += step) {
    Key keys[N];
    row.read(keys, column, none_yet);
#pragma unroll
    for (int i = 0; i < N; i++) {
      const bool open = i < row.columns - column && (none_yet || last.beats({keys[i], column + i}));
      most = open && keys[i] > most ? keys[i] : most;
    }
  }
  Best<Key> largest;
  largest.list[0] = {most, (int)threadIdx.x};
  const Candidate<Key> one = choose(largest, wanted, of_warps);
  if (threadIdx.x == wanted - 1) handed_on = one;
  __syncthreads();
  const Key bound = handed_on.key;
  Best<Key> found;
  if (most >= bound) {
    for (int column = threadIdx.x * N; column < row.columns; column += step) {
      Key keys[N];
      row.read(keys, column, false);
#pragma unroll
      for (int i = 0; i < N; i++) {
        const Candidate<Key> here = {keys[i], column + i};
        const bool open = i < row.columns - column && (none_yet || last.beats(here));
        if (open && keys[i] >= bound) found.take(here);
      }
    }
  }
  __syncwarp();
  return choose(found, wanted, of_warps);
}

// Hands the last of the chosen to all.
template <typename Key>
__device__ Candidate<Key> hand_on(Candidate<Key> mine, int wanted, Candidate<Key>& handed_on) {
  if (threadIdx.x == wanted - 1) handed_on = mine;
  __syncthreads();
  const Candidate<Key> last = handed_on;
  // The memory may be used again.
  __syncthreads();
  return last;
}

// The k best of a row: as `put` has them.
template <typename Row, typename Put, typename Key = typename Row::Compared>
__device__ void top(Row row, int k, Candidate<Key> (&of_warps)[16][BEST], Candidate<Key>& handed_on, Put put) {
  Candidate<Key> last = first(Key());
  for (int done = 0; done < k; done += BEST) {
    const int wanted = min(BEST, k - done);
    const Candidate<Key> mine = best_behind(row, last, done == 0, wanted, of_warps, handed_on);
    if (threadIdx.x < wanted) put((int64_t)blockIdx.x * k + done + threadIdx.x, mine);
    last = hand_on(mine, wanted, handed_on);
  }
}

template <typename T, typename Bias>
__device__ void top_log_probabilities(Biased<T, Bias, true> row, Bias* values, i32* ids, int k, Shared& shared,
                                      Candidate<float> (&of_warps)[16][BEST], Candidate<float>& handed_on) {
  Exponentials all;
  Candidate<float> last = first(0.f);
  for (int done = 0; done < k; done += BEST) {
    const int wanted = min(BEST, k - done);
    const Candidate<float> mine = best_behind(row, last, done == 0, wanted, of_warps, handed_on);
    if (done == 0) all = join(row.all, Exponentials{-INFINITY, 0.f}, shared);
    if (threadIdx.x < 32) {
      // As the log softmax rounds; two that differed by less than that go by their ids.
      const bool has = threadIdx.x < wanted;
      float value = -INFINITY;
      if (has) value = number(row.x[mine.id]) - all.max - logf(all.sum) + number(row.bias[mine.id]);
      const Candidate<float> own = {ranked(value), mine.id};
      int rank = 0;
#pragma unroll
      for (int lane = 0; lane < BEST; lane++) {
        const Candidate<float> other = {__shfl_sync(0xffffffffu, own.key, lane), __shfl_sync(0xffffffffu, own.id, lane)};
        rank += lane < wanted && other.beats(own);
      }
      if (has) {
        const int64_t at = (int64_t)blockIdx.x * k + done + rank;
        values[at] = convert<Bias>(value);
        ids[at] = mine.id;
      }
    }
    last = hand_on(mine, wanted, handed_on);
  }
}

}  // namespace

#define TOP_K(T, KEY) \
  KERNEL __launch_bounds__(512) \
      top_k_##T(const T* x, int64_t stride, T* values, i32* indices, Count columns, Count k) { \
    __shared__ Candidate<KEY> of_warps[16][BEST]; \
    __shared__ Candidate<KEY> handed_on; \
    const T* row = x + blockIdx.x * stride; \
    top(Plain<T, KEY>(row, columns), k, of_warps, handed_on, [=](int64_t at, Candidate<KEY> one) { \
      values[at] = row[one.id]; \
      indices[at] = one.id; \
    }); \
  }

TOP_K(f32, float)
TOP_K(f16, float)
TOP_K(bf16, float)
TOP_K(i32, int)

// The bias and the values have the type BIAS.
#define TOP_LOG_PROBABILITIES(NAME, T, BIAS) \
  KERNEL __launch_bounds__(512) \
      NAME(const T* x, int64_t stride, const BIAS* bias, BIAS* values, i32* ids, Count columns, Count k) { \
    __shared__ Shared shared; \
    __shared__ Candidate<float> of_warps[16][BEST]; \
    __shared__ Candidate<float> handed_on; \
    const Biased<T, BIAS, true> row(x + blockIdx.x * stride, bias, columns); \
    top_log_probabilities(row, values, ids, k, shared, of_warps, handed_on); \
  }

TOP_LOG_PROBABILITIES(top_log_probabilities_f32, f32, f32)
TOP_LOG_PROBABILITIES(top_log_probabilities_f16, f16, f16)
TOP_LOG_PROBABILITIES(top_log_probabilities_bf16, bf16, bf16)
TOP_LOG_PROBABILITIES(top_of_linear_f16, f16, f32)
TOP_LOG_PROBABILITIES(top_of_linear_bf16, bf16, f32)

#define TOP_LOGITS(T) \
  KERNEL __launch_bounds__(512) \
      top_logits_##T(const T* x, int64_t stride, const f32* bans, f32* values, i32* ids, Count columns, Count k) { \
    __shared__ Candidate<float> of_warps[16][BEST]; \
    __shared__ Candidate<float> handed_on; \
    const T* row = x + blockIdx.x * stride; \
    top(Biased<T, f32, false>(row, bans, columns), k, of_warps, handed_on, [=](int64_t at, Candidate<float> one) { \
      values[at] = number(row[one.id]) + bans[one.id]; \
      ids[at] = one.id; \
    }); \
  }

TOP_LOGITS(f32)
TOP_LOGITS(f16)
TOP_LOGITS(bf16)
