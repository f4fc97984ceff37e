// Attention of a decoding step: one query a hypothesis, whose keys and values are rows of a pool named by a table.
//
// Floor: the keys and values of a hypothesis are read once, 2·length·heads·d_head elements, and hardly anything is
// computed. So the work is split over the keys too (flash-decoding): a block has one head of one hypothesis and CHUNK of
// its keys. A group of lanes holds the slice of the query, loads a key and its value by 16 bytes a lane and keeps
// maximum, sum and context of what it has seen (online softmax: Milakov and Gimelshein 2018); UNROLL rows are
// in flight. The groups, then the warps, then (in a second launch) the chunks are merged in order. Which group sees which
// key depends on the hypothesis alone, and so do the bits of the result.
#pragma once
#include "common.cuh"
#include "relative_bias.cuh"

// The warps' parts: d_head contexts each, then maxima, then sums; then the biases of the chunk's keys, if there are any.
extern __shared__ __align__(16) float parts[];

namespace {

constexpr int WARPS = 4, CHUNK = 64, UNROLL = 4;

// A pool of rows, or the queries.
template <typename T> struct Heads {
  const T* data;
  int64_t row, head;
};

// What is subtracted from scores whose maximum is `largest`, so that exp(-inf - finite) is 0.
__device__ float finite(float largest) { return largest == -INFINITY ? 0.f : largest; }

// What is known of some keys: the largest score, Σ exp(score - largest), and Σ exp(score - largest)·value.
template <int N> struct Part {
  float largest, sum, context[N];

  __device__ void merge(float other_largest, float other_sum, const float (&other)[N]) {
    const float both = fmaxf(largest, other_largest);
    const float mine = expf(largest - finite(both)), theirs = expf(other_largest - finite(both));
    largest = both, sum = sum * mine + other_sum * theirs;
#pragma unroll
    for (int i = 0; i < N; i++) context[i] = context[i] * mine + other[i] * theirs;
  }
};

// Nothing seen gives 0.
__device__ float result(const Part<1>& part) { return part.sum == 0.f ? 0.f : part.context[0] / part.sum; }

// WIDTH neighbouring elements, loaded at once.
template <typename T, int WIDTH> struct Vector {
  static_assert(WIDTH * sizeof(T) == 16, "a vector");
  uint4 raw;

  __device__ void load(const T* from) { raw = *reinterpret_cast<const uint4*>(from); }
  __device__ void clear() { raw = make_uint4(0, 0, 0, 0); }
  __device__ float operator[](int i) const { return number(reinterpret_cast<const T*>(&raw)[i]); }
};
template <typename T> struct Vector<T, 1> {
  T raw;

  __device__ void load(const T* from) { raw = *from; }
  __device__ void clear() { raw = convert<T>(0.f); }
  __device__ float operator[](int) const { return number(raw); }
};

// What a lane has of a row: vectors `step` elements apart; 0 past the end.
template <typename T, int WIDTH, int VECTORS> struct Slice {
  Vector<T, WIDTH> vectors[VECTORS];

  __device__ void load(const T* from, int first, int step, int d_head) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
      const int at = first + v * step;
      if (at < d_head)
        vectors[v].load(from + at);
      else
        vectors[v].clear();
    }
  }
  __device__ float operator[](int i) const { return vectors[i / WIDTH][i % WIDTH]; }
};

// What each group of lanes has seen, with the keys from .. end of a list. `row_of(i)` is the row of key i, and `score_of(x, i)` the
// score that its product makes.
template <int LANES, typename T, int WIDTH, int VECTORS, typename Row, typename Score>
__device__ Part<VECTORS * WIDTH> see(Part<VECTORS * WIDTH> part, const Slice<T, WIDTH, VECTORS>& q, const Heads<T>& key, const Heads<T>& value,
                    Count rows, int from, int end, int d_head, Row row_of, Score score_of) {
  constexpr int N = VECTORS * WIDTH, GROUPS = WARPS * 32 / LANES;
  const int group = threadIdx.x / LANES, first = threadIdx.x % LANES * WIDTH, step = LANES * WIDTH;
  for (int row = from; row < end; row += GROUPS * UNROLL) {
    Slice<T, WIDTH, VECTORS> keys[UNROLL], values[UNROLL];
    Count ids[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const int at = row + u * GROUPS + group;
      ids[u] = at < end ? (Count)row_of(at) : UINT32_MAX;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      // A row that is not there is not seen.
      const int size = ids[u] < rows ? d_head : 0;
      keys[u].load(key.data + ids[u] * key.row, first, step, size);
      values[u].load(value.data + ids[u] * value.row, first, step, size);
    }
    float scores[UNROLL], largest = part.largest;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      float dot = 0.f;
#pragma unroll
      for (int i = 0; i < N; i++) dot += q[i] * keys[u][i];
#pragma unroll
      for (int lanes = LANES / 2; lanes > 0; lanes /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, lanes);
      scores[u] = ids[u] < rows ? score_of(dot, row + u * GROUPS + group) : -INFINITY;
      largest = fmaxf(largest, scores[u]);
    }
    const float kept = expf(part.largest - finite(largest));
    part.largest = largest, part.sum *= kept;
#pragma unroll
    for (int i = 0; i < N; i++) part.context[i] *= kept;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const float weight = expf(scores[u] - finite(largest));
      part.sum += weight;
#pragma unroll
      for (int i = 0; i < N; i++) part.context[i] += weight * values[u][i];
    }
  }
  return part;
}

// Merges what the block's groups have seen, and stores it: the context of a head of a query if there is one part, or else what
// later merges need.
template <int LANES, int WIDTH, int N, typename T>
__device__ void finish(Part<N>& part, int64_t place, int number, int of_all, int d_head, T* context, float* partial) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = threadIdx.x % LANES * WIDTH, step = LANES * WIDTH;
#pragma unroll
  for (int lanes = LANES; lanes < 32; lanes *= 2) {
    float other[N];
#pragma unroll
    for (int i = 0; i < N; i++) other[i] = __shfl_xor_sync(0xffffffffu, part.context[i], lanes);
    const float largest = __shfl_xor_sync(0xffffffffu, part.largest, lanes);
    const float sum = __shfl_xor_sync(0xffffffffu, part.sum, lanes);
    part.merge(largest, sum, other);
  }
  float *maxima = parts + WARPS * d_head, *sums = maxima + WARPS;
  if (lane < LANES) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      const int at = first + i / WIDTH * step + i % WIDTH;
      if (at < d_head) parts[warp * d_head + at] = part.context[i];
    }
    if (lane == 0) maxima[warp] = part.largest, sums[warp] = part.sum;
  }
  __syncthreads();
  for (int at = threadIdx.x; at < d_head; at += 32 * WARPS) {
    Part<1> all = {maxima[0], sums[0], {parts[at]}};
#pragma unroll
    for (int other = 1; other < WARPS; other++) all.merge(maxima[other], sums[other], {parts[other * d_head + at]});
    if (of_all == 1) {
      context[place * d_head + at] = convert<T>(result(all));
      continue;
    }
    float* to = partial + (place * of_all + number) * (d_head + 2);
    to[at] = all.context[0];
    if (at == 0) to[d_head] = all.largest, to[d_head + 1] = all.sum;
  }
}

// context [n, heads, d_head] if there is one chunk; otherwise partial [n, heads, chunks, d_head + 2] holds the context so
// far, the largest score and the sum. A group of LANES has heads up to LANES·VECTORS·WIDTH; where WIDTH is not 1, all heads
// are of whole vectors at multiples of 16 bytes. Blocks: n, heads, chunks.
template <typename T, int LANES, int VECTORS, int WIDTH, typename Bias>
__device__ void attend(Heads<T> query, Heads<T> key, Heads<T> value, Count rows, const i32* table, int width,
                       const i32* lengths, int d_head, float scale, Bias bias, T* context, float* partial) {
  constexpr int N = VECTORS * WIDTH;
  const int hypothesis = blockIdx.x, head = blockIdx.y, chunk = blockIdx.z, chunks = gridDim.z;
  const int length = min(max(lengths[hypothesis], 0), width);
  // The first chunk is there even without keys: its result is 0.
  if (chunk > 0 && chunk * CHUNK >= length) return;
  const int end = min(length, (chunk + 1) * CHUNK);
  table += (int64_t)hypothesis * width;
  key.data += head * key.head, value.data += head * value.head;

  float* const biases = parts + WARPS * (d_head + 2);
  if constexpr (Bias::SOME) {
    const int at = chunk * CHUNK + threadIdx.x;
    // The query stands at the last key.
    if (threadIdx.x < CHUNK && at < end)
      biases[threadIdx.x] = bias.biases[bucket_of(bias.buckets, at - (length - 1)) * gridDim.y + head];
    __syncthreads();
  }
  Slice<T, WIDTH, VECTORS> q;
  q.load(query.data + hypothesis * query.row + head * query.head, threadIdx.x % LANES * WIDTH, LANES * WIDTH, d_head);
  Part<N> part = {-INFINITY, 0.f, {}};
  part = see<LANES>(part, q, key, value, rows, chunk * CHUNK, end, d_head, [&](int at) { return table[at]; }, [&](float dot, int at) {
    if constexpr (Bias::SOME) return fmaf(dot, scale, biases[at - chunk * CHUNK]);
    else return dot * scale;
  });
  finish<LANES, WIDTH>(part, (int64_t)hypothesis * gridDim.y + head, chunk, chunks, d_head, context, partial);
}

// The second launch: a thread an element of the context goes through the chunks.
template <typename T>
__device__ void merge(const float* partial, const i32* lengths, int width, int heads, int d_head, int chunks, T* context,
                      Count n) {
  const Count i = index();
  if (i >= n) return;
  const int at = i % d_head;
  const Count place = i / d_head;
  const int length = min(max(lengths[place / heads], 0), width);
  const float* from = partial + (int64_t)place * chunks * (d_head + 2);
  Part<1> all = {from[d_head], from[d_head + 1], {from[at]}};
  for (int chunk = 1; chunk * CHUNK < length; chunk++) {
    from += d_head + 2;
    all.merge(from[d_head], from[d_head + 1], {from[at]});
  }
  context[i] = convert<T>(result(all));
}

}  // namespace

#define ATTEND(KERNEL_NAME, T, LANES, VECTORS, WIDTH, BIAS) \
  KERNEL __launch_bounds__(32 * WARPS) \
      KERNEL_NAME(const T* query, int64_t query_row, int64_t query_head, const T* key, int64_t key_row, int64_t key_head, \
                  const T* value, int64_t value_row, int64_t value_head, Count rows, const i32* table, int width, \
                  const i32* lengths, int d_head, float scale, T* context, float* partial BIAS##_ARGUMENTS) { \
    BIAS##_OPERAND \
    attend<T, LANES, VECTORS, WIDTH>({query, query_row, query_head}, {key, key_row, key_head}, \
                                    {value, value_row, value_head}, rows, table, width, lengths, d_head, scale, bias, \
                                    context, partial); \
  }

// Heads up to that size, in whole 16 bytes; or any up to 256.
#define ATTEND_ALL(NAME, BIAS) \
  ATTEND(NAME##_f32_64, f32, 16, 1, 4, BIAS) \
  ATTEND(NAME##_f32_128, f32, 32, 1, 4, BIAS) \
  ATTEND(NAME##_f32_256, f32, 32, 2, 4, BIAS) \
  ATTEND(NAME##_f32_any, f32, 32, 8, 1, BIAS) \
  ATTEND(NAME##_f16_64, f16, 8, 1, 8, BIAS) \
  ATTEND(NAME##_f16_128, f16, 16, 1, 8, BIAS) \
  ATTEND(NAME##_f16_256, f16, 32, 1, 8, BIAS) \
  ATTEND(NAME##_f16_any, f16, 32, 8, 1, BIAS) \
  ATTEND(NAME##_bf16_64, bf16, 8, 1, 8, BIAS) \
  ATTEND(NAME##_bf16_128, bf16, 16, 1, 8, BIAS) \
  ATTEND(NAME##_bf16_256, bf16, 32, 1, 8, BIAS) \
  ATTEND(NAME##_bf16_any, bf16, 32, 8, 1, BIAS)
