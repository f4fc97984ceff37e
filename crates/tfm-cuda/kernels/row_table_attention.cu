// Attention of a decoding step: one query a hypothesis, whose keys and values are rows of a pool named by a table.
//
// Floor: the keys and values of a hypothesis are read once, 2·length·heads·d_head elements, and hardly anything is
// computed. So the work is split over the keys too (flash-decoding): a block has one head of one hypothesis and CHUNK of
// its keys. A group of lanes holds the slice of the query, loads a key and its value by 16 bytes a lane and keeps
// maximum, sum and context of what it has seen (online softmax: Milakov and Gimelshein 2018); UNROLL rows are
// in flight. The groups, then the warps, then (in a second launch) the chunks are merged in order. Which group sees which
// key depends on the hypothesis alone, and so do the bits of the result.
#include "common.cuh"

// The warps' parts: d_head contexts each, then maxima, then sums.
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

// The elements of a row which a lane has: VECTORS times 16 bytes, `step` elements apart; 0 past the end.
template <typename T, int VECTORS>
__device__ void load(uint4 (&to)[VECTORS], const T* from, int first, int step, int d_head, bool aligned) {
  constexpr int WIDTH = 16 / sizeof(T);
#pragma unroll
  for (int v = 0; v < VECTORS; v++) {
    const int at = first + v * step;
    if (aligned) {
      to[v] = at < d_head ? *reinterpret_cast<const uint4*>(from + at) : make_uint4(0, 0, 0, 0);
    } else {
      T elements[WIDTH];
#pragma unroll
      for (int i = 0; i < WIDTH; i++) elements[i] = at + i < d_head ? from[at + i] : convert<T>(0.f);
      to[v] = *reinterpret_cast<uint4*>(elements);
    }
  }
}

template <typename T, int N> __device__ void numbers(float (&to)[N], const uint4 (&from)[N * sizeof(T) / 16]) {
  constexpr int WIDTH = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < N; i++) to[i] = number(reinterpret_cast<const T*>(&from[i / WIDTH])[i % WIDTH]);
}

// context [n, heads, d_head] if there is one chunk; otherwise partial [n, heads, chunks, d_head + 2] holds the context so
// far, the largest score and the sum. A group of LANES has d_head up to LANES·VECTORS·16 bytes. Blocks: n, heads, chunks.
template <typename T, int LANES, int VECTORS>
__device__ void attend(Heads<T> query, Heads<T> key, Heads<T> value, Count rows, const i32* table, int width,
                       const i32* lengths, int d_head, bool aligned, float scale, T* context, float* partial) {
  constexpr int WIDTH = 16 / sizeof(T), N = VECTORS * WIDTH, GROUPS = WARPS * 32 / LANES;
  const int hypothesis = blockIdx.x, head = blockIdx.y, chunk = blockIdx.z, chunks = gridDim.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int group = threadIdx.x / LANES, first = threadIdx.x % LANES * WIDTH, step = LANES * WIDTH;
  const int length = min(max(lengths[hypothesis], 0), width);
  // The first chunk is there even without keys: its result is 0.
  if (chunk > 0 && chunk * CHUNK >= length) return;
  const int end = min(length, (chunk + 1) * CHUNK);
  table += (int64_t)hypothesis * width;
  key.data += head * key.head, value.data += head * value.head;

  float q[N];
  {
    uint4 raw[VECTORS];
    load(raw, query.data + hypothesis * query.row + head * query.head, first, step, d_head, aligned);
    numbers<T>(q, raw);
  }
  Part<N> part = {-INFINITY, 0.f, {}};
  for (int row = chunk * CHUNK; row < end; row += GROUPS * UNROLL) {
    uint4 keys[UNROLL][VECTORS], values[UNROLL][VECTORS];
    Count ids[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const int at = row + u * GROUPS + group;
      ids[u] = at < end ? (Count)table[at] : UINT32_MAX;
    }
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      // A row that is not there is not seen.
      const int size = ids[u] < rows ? d_head : 0;
      load(keys[u], key.data + ids[u] * key.row, first, step, size, aligned);
      load(values[u], value.data + ids[u] * value.row, first, step, size, aligned);
    }
    float scores[UNROLL], largest = part.largest;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      float k[N], dot = 0.f;
      numbers<T>(k, keys[u]);
#pragma unroll
      for (int i = 0; i < N; i++) dot += q[i] * k[i];
#pragma unroll
      for (int lanes = LANES / 2; lanes > 0; lanes /= 2) dot += __shfl_xor_sync(0xffffffffu, dot, lanes);
      scores[u] = ids[u] < rows ? dot * scale : -INFINITY;
      largest = fmaxf(largest, scores[u]);
    }
    const float kept = expf(part.largest - finite(largest));
    part.largest = largest, part.sum *= kept;
#pragma unroll
    for (int i = 0; i < N; i++) part.context[i] *= kept;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
      const float weight = expf(scores[u] - finite(largest));
      float v[N];
      numbers<T>(v, values[u]);
      part.sum += weight;
#pragma unroll
      for (int i = 0; i < N; i++) part.context[i] += weight * v[i];
    }
  }
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
  const int64_t place = (int64_t)hypothesis * gridDim.y + head;
  for (int at = threadIdx.x; at < d_head; at += 32 * WARPS) {
    Part<1> all = {maxima[0], sums[0], {parts[at]}};
#pragma unroll
    for (int other = 1; other < WARPS; other++) all.merge(maxima[other], sums[other], {parts[other * d_head + at]});
    if (chunks == 1) {
      context[place * d_head + at] = convert<T>(result(all));
      continue;
    }
    float* to = partial + (place * chunks + chunk) * (d_head + 2);
    to[at] = all.context[0];
    if (at == 0) to[d_head] = all.largest, to[d_head + 1] = all.sum;
  }
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

#define ATTEND(T, D, LANES, VECTORS) \
  KERNEL __launch_bounds__(32 * WARPS) \
      row_table_attention_##T##_##D(const T* query, int64_t query_row, int64_t query_head, const T* key, int64_t key_row, \
                                    int64_t key_head, const T* value, int64_t value_row, int64_t value_head, Count rows, \
                                    const i32* table, int width, const i32* lengths, int d_head, int aligned, \
                                    float scale, T* context, float* partial) { \
    attend<T, LANES, VECTORS>({query, query_row, query_head}, {key, key_row, key_head}, {value, value_row, value_head}, \
                              rows, table, width, lengths, d_head, aligned, scale, context, partial); \
  }

// Head sizes up to D.
ATTEND(f32, 64, 16, 1)
ATTEND(f32, 128, 32, 1)
ATTEND(f32, 256, 32, 2)
ATTEND(f16, 64, 8, 1)
ATTEND(f16, 128, 16, 1)
ATTEND(f16, 256, 32, 1)
ATTEND(bf16, 64, 8, 1)
ATTEND(bf16, 128, 16, 1)
ATTEND(bf16, 256, 32, 1)

#define MERGE(T) \
  KERNEL merge_chunks_##T(const float* partial, const i32* lengths, int width, int heads, int d_head, int chunks, \
                          T* context, Count n) { \
    merge(partial, lengths, width, heads, d_head, chunks, context, n); \
  }

MERGE(f32)
MERGE(f16)
MERGE(bf16)
