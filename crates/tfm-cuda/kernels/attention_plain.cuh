// Attention and its gradient for f32, and for rows whose place or size the kernels of tiles cannot use: products by fused
// multiply-add in f32. A block has 32 rows of one head, 8 threads each, and goes through tiles of 32 other rows; both
// lie in shared memory as f32.
//
// Floor: 4 q k size operations (gradients: 14) a head on the f32 units; bytes once for every 32 rows. A product reads 5
// vectors of shared memory for 16 multiply-adds, a sum one for 4.
#pragma once
#include "attention.cuh"

extern __shared__ __align__(16) float memory[];
// Of the gradient of keys, by warp: which sequences have rows of the block.
__shared__ uint32_t sequences_here[8];

namespace {

constexpr int TILE = 32, THREADS = 256, LANES = THREADS / TILE, N = TILE / LANES;
// A thread has 4 neighbouring columns of every 4·LANES: this many times, for 256 columns.
constexpr int PARTS = 256 / (4 * LANES);

// Rows in shared memory: whole vectors, an odd number of them, so that 8 rows lie in different banks.
__device__ int wide(int size) { return 4 * ((size + 3) / 4 | 1); }

// `count` rows of `size` elements, padded with zeros to TILE rows of whole vectors.
template <typename T> __device__ void copy_rows(float* to, const T* from, int64_t stride, int count, int size) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, all = wide(size);
#pragma unroll 1
  for (int row = warp; row < TILE; row += THREADS / 32)
    for (int i = lane; i < all; i += 32) to[row * all + i] = row < count && i < size ? number(from[row * stride + i]) : 0.f;
}

// Four neighbours in shared memory. By hand: the compiler takes such loads apart, and not every time alike.
__device__ float4 load(const float* p) {
  float4 x;
  asm volatile("ld.shared.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "r"((uint32_t)__cvta_generic_to_shared(p)) : "memory");
  return x;
}

// d[c] = own · row lane + LANES c of the tile.
__device__ void products(float (&d)[N], const float* own, const float* tile, int size) {
  const int all = wide(size);
  const float* at = tile + threadIdx.x % LANES * all;
#pragma unroll
  for (int c = 0; c < N; c++) d[c] = 0.f;
#pragma unroll 2
  for (int k = 0; k < size; k += 4) {
    const float4 a = load(own + k);
#pragma unroll
    for (int c = 0; c < N; c++) {
      const float4 b = load(at + c * LANES * all + k);
      d[c] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, d[c]))));
    }
  }
}

// out += Σ_j weight of row j · row j of the tile; the weights lie with the threads as `products` leaves them.
__device__ void accumulate(float4 (&out)[PARTS], const float (&weights)[N], const float* tile, int size) {
  const int all = wide(size), column = threadIdx.x % LANES * 4;
#pragma unroll
  for (int c = 0; c < N; c++)
#pragma unroll 1
    for (int l = 0; l < LANES; l++) {
      const float w = __shfl_sync(0xffffffffu, weights[c], l, LANES);
      const float* row = tile + (c * LANES + l) * all + column;
#pragma unroll
      for (int i = 0; i < PARTS; i++)
        if (column + i * 4 * LANES < size) {
          const float4 b = load(row + i * 4 * LANES);
          float4& o = out[i];
          o.x = fmaf(w, b.x, o.x), o.y = fmaf(w, b.y, o.y), o.z = fmaf(w, b.z, o.z), o.w = fmaf(w, b.w, o.w);
        }
    }
}

template <typename T> __device__ void store_row(T* to, const float4 (&x)[PARTS], float factor, int size) {
  const int column = threadIdx.x % LANES * 4;
#pragma unroll
  for (int i = 0; i < PARTS; i++) {
    const float parts[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
#pragma unroll
    for (int c = 0; c < 4; c++)
      if (column + i * 4 * LANES + c < size) to[column + i * 4 * LANES + c] = convert<T>(parts[c] * factor);
  }
}

// Bit c: whether the weight at `first + c·LANES·step` is kept.
__device__ uint32_t kept_of(const Dropout& dropout, int64_t first, int64_t step) {
  if (!dropout.key) return UINT32_MAX;
  uint32_t kept = 0;
#pragma unroll 1
  for (int c = 0; c < N; c++) {
    const uint64_t position = first + c * LANES * step;
    uint32_t words[4];
    philox(dropout, position / 4, words);
    const int part = position % 4;
    const uint32_t word = part == 0 ? words[0] : part == 1 ? words[1] : part == 2 ? words[2] : words[3];
    if ((word >> 8) >= dropout.threshold) kept |= 1u << c;
  }
  return kept;
}

__device__ float group_sum(float x) {
#pragma unroll
  for (int lane = LANES / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

__device__ float group_max(float x) {
#pragma unroll
  for (int lane = LANES / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}

// A score: a product with its bias.
__device__ float scaled(float product, float scale, const Unbiased&, int) { return product * scale; }
__device__ float scaled(float product, float scale, const Biased& bias, int distance) {
  return fmaf(product, scale, bias.of(distance));
}

// What a row has seen so far: the largest score, a thread's part of the sum of exponentials, the context.
struct Seen {
  float sum = 0.f, largest = -INFINITY;
  float4 out[PARTS] = {};

  // Makes weights of a tile's scores. Those that are not `kept` count in the sum alone.
  __device__ void weigh(float (&p)[N], uint32_t kept) {
    float most_here = largest;
#pragma unroll
    for (int c = 0; c < N; c++) most_here = fmaxf(most_here, p[c]);
    most_here = group_max(most_here);
    const float shift = most_here == -INFINITY ? 0.f : most_here;
    const float shrink = expf(largest - shift);
    largest = most_here;
    sum *= shrink;
#pragma unroll
    for (int i = 0; i < PARTS; i++) out[i].x *= shrink, out[i].y *= shrink, out[i].z *= shrink, out[i].w *= shrink;
#pragma unroll
    for (int c = 0; c < N; c++) {
      p[c] = expf(p[c] - shift);
      sum += p[c];
      if (!(kept >> c & 1)) p[c] = 0.f;
    }
  }

  // Stores the results of a query.
  template <typename T> __device__ void store(T* context, float* log_sum_exp, int query, bool there, int size, float factor) {
    sum = group_sum(sum);
    if (!there) return;
    const bool some = sum > 0.f;
    const int64_t at = (int64_t)query * gridDim.y + blockIdx.y;
    store_row(context + at * size, out, some ? factor / sum : 0.f, size);
    if (threadIdx.x % LANES == 0) log_sum_exp[at] = some ? largest + logf(sum) : 0.f;
  }
};

// Blocks: tiles of queries (`tile_of`), heads. Threads: 256. Shared memory: two tiles, of the gradients three; then the biases by
// distance.
template <typename T, typename Bias>
__device__ void attention(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                          float scale, const Dropout& dropout, Bias bias, T* context, float* log_sum_exp) {
  const int head = blockIdx.y, heads = gridDim.y, row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  float *const queries = memory, *const passing = memory + TILE * wide(size);
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return;
  const Sequence sequence = sequence_of(batch, s);
  if (from >= sequence.length) return;
  const int rows = min(TILE, sequence.length - from), first = sequence.first + from;
  const int most = sequence.visible(from + rows - 1), seen = sequence.visible(from + row);
  const int own = sequence.position(from + row);
  const int64_t position = ((int64_t)head * batch.queries + first + row) * batch.rows + sequence.start;

  copy_rows(queries, query.at(first, head), query.row, rows, size);
  bias.prepare(passing + TILE * wide(size), head, heads);
  Seen so_far;
  for (int at = 0; at < most; at += TILE) {
    copy_rows(passing, key.at(sequence.start + at, head), key.row, sequence.count - at, size);
    __syncthreads();
    float p[N];
    products(p, queries + row * wide(size), passing, size);
#pragma unroll
    for (int c = 0; c < N; c++) {
      const int j = at + lane + LANES * c;
      p[c] = j < seen ? scaled(p[c], scale, bias, j - own) : -INFINITY;
    }
    so_far.weigh(p, kept_of(dropout, position + at + lane, 1));
    __syncthreads();
    copy_rows(passing, value.at(sequence.start + at, head), value.row, sequence.count - at, size);
    __syncthreads();
    accumulate(so_far.out, p, passing, size);
    __syncthreads();
  }
  so_far.store(context, log_sum_exp, first + row, row < rows, size, dropout.factor);
}

// `weigh` of the kernels of tiles, with natural exponentials.
template <typename Bias>
__device__ void weigh(float& score, float& d_score, bool visible, bool kept, float scale, const Bias& bias, int distance,
                      float factor, float2 sums) {
  const float weight = expf(visible ? scaled(score, scale, bias, distance) - sums.x : -INFINITY);
  d_score = weight * ((kept && visible ? d_score * factor : 0.f) - sums.y);
  score = kept ? weight : 0.f;
}

// Blocks: tiles of queries (`tile_of`), heads. With biases also the sums of the scores' gradients by distance, of each block; they
// pass through the last tile's memory, which is larger then where heads are small.
template <typename T, typename Bias>
__device__ void query_gradient(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                               float scale, const Dropout& dropout, Bias bias, const Rows<T>& d_context,
                               const float2* sums, T* d_query) {
  typedef DistanceSums<Bias, TILE, TILE> Sums;
  const int head = blockIdx.y, heads = gridDim.y, row = threadIdx.x / LANES, lane = threadIdx.x % LANES, all = wide(size);
  float *const queries = memory, *const d_contexts = queries + TILE * all, *const passing = d_contexts + TILE * all;
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return store_no_sums(bias);
  const Sequence sequence = sequence_of(batch, s);
  if (from >= sequence.length) return store_no_sums(bias);
  const int rows = min(TILE, sequence.length - from), first = sequence.first + from;
  const int most = sequence.visible(from + rows - 1), seen = sequence.visible(from + row);
  const int own = sequence.position(from + row);
  const int64_t position = ((int64_t)head * batch.queries + first + row) * batch.rows + sequence.start;
  const float2 mine = sums[(int64_t)head * batch.queries + first + min(row, rows - 1)];

  copy_rows(queries, query.at(first, head), query.row, rows, size);
  copy_rows(d_contexts, d_context.at(first, head), d_context.row, rows, size);
  float* const floats = passing + max(TILE * all, Sums::tile_floats());
  bias.prepare(floats, head, heads);
  Sums by_distance(floats + bias.floats(), passing, bias);
  float4 out[PARTS] = {};
  for (int at = 0; at < most; at += TILE) {
    float p[N], d[N];
    copy_rows(passing, value.at(sequence.start + at, head), value.row, sequence.count - at, size);
    __syncthreads();
    products(d, d_contexts + row * all, passing, size);
    __syncthreads();
    copy_rows(passing, key.at(sequence.start + at, head), key.row, sequence.count - at, size);
    __syncthreads();
    products(p, queries + row * all, passing, size);
    const uint32_t kept = kept_of(dropout, position + at + lane, 1);
#pragma unroll
    for (int c = 0; c < N; c++)
      weigh(p[c], d[c], at + lane + LANES * c < seen, kept >> c & 1, scale, bias, at + lane + LANES * c - own,
            dropout.factor, mine);
    accumulate(out, d, passing, size);
    __syncthreads();
    if constexpr (Bias::SOME) {
      // Rows without a query have weights too.
#pragma unroll
      for (int c = 0; c < N; c++) by_distance.put(row, lane + LANES * c, row < rows ? d[c] : 0.f);
      __syncthreads();
      by_distance.add(at - sequence.position(from));
      __syncthreads();
    }
  }
  if constexpr (Bias::SOME) {
    by_distance.gather();
    __syncthreads();
    by_distance.store(bias);
  }
  if (row < rows) store_row(d_query + ((int64_t)(first + row) * heads + head) * size, out, scale, size);
}

// Blocks: tiles of rows, heads. All rows are written. The sequences are looked at THREADS at a time, and those that have rows of
// the block are gone through in their order.
template <typename T, typename Bias>
__device__ void key_gradient(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                             float scale, const Dropout& dropout, Bias bias, const Rows<T>& d_context,
                             const float2* sums, T* d_key, T* d_value) {
  const int head = blockIdx.y, heads = gridDim.y, row = threadIdx.x / LANES, lane = threadIdx.x % LANES, all = wide(size);
  float *const keys = memory, *const values = keys + TILE * all, *const passing = values + TILE * all;
  const int first = blockIdx.x * TILE;

  copy_rows(keys, key.at(first, head), key.row, batch.rows - first, size);
  copy_rows(values, value.at(first, head), value.row, batch.rows - first, size);
  bias.prepare(passing + TILE * all, head, heads);
  float4 out_key[PARTS] = {}, out_value[PARTS] = {};
  for (int s = 0; s < batch.sequences;) {
    if (s % THREADS == 0) {
      __syncthreads();
      bool hit = false;
      if (s + (int)threadIdx.x < batch.sequences) {
        const Sequence mine = sequence_of(batch, s + threadIdx.x);
        hit = mine.length > 0 && mine.start < first + TILE && mine.start + mine.count > first && mine.count > 0;
      }
      const uint32_t of_warp = __ballot_sync(0xffffffffu, hit);
      if (threadIdx.x % 32 == 0) sequences_here[threadIdx.x / 32] = of_warp;
      __syncthreads();
    }
    const uint32_t left = sequences_here[s % THREADS / 32] >> s % 32;
    if (left == 0) {
      s = (s | 31) + 1;
      continue;
    }
    s += __ffs(left) - 1;
    const Sequence sequence = sequence_of(batch, s++);
    const int offset = first - sequence.start;
    // Key j is seen by the queries from j - lead on, and what is not among the keys by none.
    const int j = offset + row, from = j >= 0 && j < sequence.count ? j - sequence.lead : INT32_MAX;
    int at = batch.causal ? max(0, max(0, offset) - sequence.lead) : 0;
    for (; at < sequence.length; at += TILE) {
      const int count = sequence.length - at, begin = sequence.first + at;
      float p[N], d[N];
      copy_rows(passing, query.at(begin, head), query.row, count, size);
      __syncthreads();
      products(p, keys + row * all, passing, size);
      __syncthreads();
      copy_rows(passing, d_context.at(begin, head), d_context.row, count, size);
      __syncthreads();
      products(d, values + row * all, passing, size);
      const int64_t number = (int64_t)head * batch.queries + begin;
      const uint32_t kept = kept_of(dropout, (number + lane) * batch.rows + first + row, batch.rows);
#pragma unroll
      for (int c = 0; c < N; c++) {
        const int i = lane + LANES * c;
        const bool visible = i < count && at + i >= from;
        const float2 mine = sums[number + min(i, count - 1)];
        weigh(p[c], d[c], visible, kept >> c & 1, scale, bias, j - sequence.position(at + i), dropout.factor, mine);
      }
      accumulate(out_value, p, passing, size);
      __syncthreads();
      copy_rows(passing, query.at(begin, head), query.row, count, size);
      __syncthreads();
      accumulate(out_key, d, passing, size);
      __syncthreads();
    }
  }
  if (first + row >= batch.rows) return;
  const int64_t to = ((int64_t)(first + row) * heads + head) * size;
  store_row(d_key + to, out_key, scale, size);
  store_row(d_value + to, out_value, dropout.factor, size);
}

}  // namespace

// sums[h, i] = log Σ exp of query i's scores, and rowsum(dO∘O): a warp each, `n` in all. Both operands [queries, heads, size].
#define ROWS(T)                                                                                                       \
  KERNEL attention_rows_##T(const T* context, const float* log_sum_exp, const T* d_context, Count queries, Count heads, \
                            Count size, float2* sums, Count n) {                                                      \
    const Count i = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;                                                \
    if (i >= n) return;                                                                                               \
    const int64_t at = (int64_t)i * size;                                                                             \
    float sum = 0.f;                                                                                                  \
    for (Count c = threadIdx.x % 32; c < size; c += 32)                                                               \
      sum = fmaf(number(context[at + c]), number(d_context[at + c]), sum);                                            \
    sum = warp_sum(sum);                                                                                              \
    if (threadIdx.x % 32 == 0) sums[(int64_t)(i % heads) * queries + i / heads] = make_float2(log_sum_exp[i], sum);   \
  }

// With biases the gradients need more registers than two blocks have; the assembler
// would spill for them.
#define UNBIASED_BLOCKS
#define BIASED_BLOCKS , 1

#define PLAIN(NAME, T, BIAS)                                                                                          \
  KERNEL __launch_bounds__(THREADS) NAME##_##T(ATTENTION_ARGUMENTS(T), T* context, float* log_sum_exp BIAS##_ARGUMENTS) { \
    ATTENTION_OPERANDS(T)                                                                                             \
    BIAS##_OPERAND                                                                                                    \
    attention<T>(q, k, v, batch, size, scale, dropout, bias, context, log_sum_exp);                                   \
  }                                                                                                                   \
  KERNEL __launch_bounds__(THREADS BIAS##_BLOCKS)                                                                     \
      NAME##_query_gradient_##T(ATTENTION_ARGUMENTS(T), const T* d_context, const float2* sums, T* d_query BIAS##_SUMS) { \
    ATTENTION_OPERANDS(T)                                                                                             \
    BIAS##_SUMS_OPERAND                                                                                               \
    const Rows<T> d{d_context, (int64_t)gridDim.y * size, size};                                                      \
    query_gradient<T>(q, k, v, batch, size, scale, dropout, bias, d, sums, d_query);                                  \
  }                                                                                                                   \
  KERNEL __launch_bounds__(THREADS BIAS##_BLOCKS)                                                                     \
      NAME##_key_gradient_##T(ATTENTION_ARGUMENTS(T), const T* d_context, const float2* sums, T* d_key,               \
                              T* d_value BIAS##_ARGUMENTS) {                                                          \
    ATTENTION_OPERANDS(T)                                                                                             \
    BIAS##_OPERAND                                                                                                    \
    const Rows<T> d{d_context, (int64_t)gridDim.y * size, size};                                                      \
    key_gradient<T>(q, k, v, batch, size, scale, dropout, bias, d, sums, d_key, d_value);                             \
  }
