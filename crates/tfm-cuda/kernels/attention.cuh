// What the kernels of attention share: which queries and keys belong together, dropout of the weights, and the tiles
// of those that multiply by mma.sync.
#pragma once
#include "common.cuh"
#include "relative_bias.cuh"

// Of `tile_of`, by warp.
__shared__ int sequences_begun[2][32];

namespace {

// One head of an operand [rows, heads, size], whose last axis has no gaps.
template <typename T> struct Rows {
  const T* first;
  int64_t row, head;
  __device__ const T* at(int64_t i, int h) const { return first + i * row + h * head; }
};

// A ragged batch: sequence s has the queries offsets[s] .. offsets[s + 1] and ranges[2 s + 1] keys from ranges[2 s] on.
// What lies outside of the operands is cut off, so that no content of the two leads astray.
struct Batch {
  const int* offsets;
  const int* ranges;
  int sequences, queries, rows, causal;
};

struct Sequence {
  int first, length;  // queries
  int start, count;   // keys
  int lead;           // query i sees the keys below i + 1 + lead
  // Where query i stands among the keys: both end together.
  __device__ int position(int query) const { return query + count - length; }
  __device__ int visible(int query) const { return max(0, (int)min((int64_t)count, (int64_t)query + 1 + lead)); }
};

__device__ Sequence sequence_of(const Batch& batch, int s) {
  Sequence found;
  found.first = min(max(batch.offsets[s], 0), batch.queries);
  found.length = min(max(batch.offsets[s + 1], 0), batch.queries) - found.first;
  found.start = min(max(batch.ranges[2 * s], 0), batch.rows);
  found.count = min(max(batch.ranges[2 * s + 1], 0), batch.rows - found.start);
  found.lead = batch.causal ? found.count - found.length : INT32_MAX;
  return found;
}

// The queries of a block, without a list of tiles: sequence s has the blocks from offsets[s] / TILE + s on, as many as
// its queries need or one or two more, which have nothing to do. In all there are queries / TILE + sequences blocks, by
// which the host launches without knowing a length. All threads search together: a bisection would wait for memory as often as
// it halves.
template <int TILE> __device__ bool tile_of(const Batch& batch, int block, int& s, int& first) {
  const int threads = blockDim.x;
  int low = 0, high = batch.sequences - 1;
  for (int round = 0; low < high; round ^= 1) {
    const int step = (high - low + threads - 1) / threads, at = low + ((int)threadIdx.x + 1) * step;
    const uint32_t of_warp = __ballot_sync(0xffffffffu, at <= high && batch.offsets[at] / TILE + at <= block);
    if (threadIdx.x % 32 == 0) sequences_begun[round][threadIdx.x / 32] = __popc(of_warp);
    __syncthreads();
    int count = 0;
    for (int warp = 0; warp < threads / 32; warp++) count += sequences_begun[round][warp];
    low += count * step;
    high = min(high, low + step - 1);
  }
  s = low;
  first = (block - batch.offsets[s] / TILE - s) * TILE;
  return first >= 0;
}

// Dropout of the weights: that of head h, query i and row j has the number at position (h queries + i) rows + j.
struct Dropout {
  const int* key;  // seed (low, high) and step; none: nothing is dropped
  uint32_t stream;
  uint32_t threshold;  // 2^24 rate: what is below is dropped
  float factor;        // 1 / (1 - rate)
};

// Four words of Philox4x32-10, `philox` of tfm-core, for the positions from 4 block on.
__device__ void philox(const Dropout& dropout, uint64_t block, uint32_t (&c)[4]) {
  uint32_t k0 = dropout.key[0], k1 = dropout.key[1];
  c[0] = (uint32_t)block, c[1] = (uint32_t)(block >> 32), c[2] = dropout.key[2], c[3] = dropout.stream;
#pragma unroll
  for (int round = 0; round < 10; round++) {
    if (round > 0) k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    const uint32_t high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
    const uint32_t high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
    c[0] = high1 ^ c[1] ^ k0, c[1] = low1, c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
  }
}

}  // namespace

// The arguments that all kernels of attention begin with.
#define ATTENTION_ARGUMENTS(T)                                                                                      \
  const T *query, int64_t query_row, int64_t query_head, const T *key, int64_t key_row, int64_t key_head,           \
      const T *value, int64_t value_row, int64_t value_head, const int *offsets, const int *ranges, Count sequences, \
      Count queries, Count rows, Count size, int causal, float scale, const int *random, uint32_t stream,            \
      uint32_t threshold, float factor
#define ATTENTION_OPERANDS(T)                                                                          \
  const Rows<T> q{query, query_row, query_head}, k{key, key_row, key_head}, v{value, value_row, value_head}; \
  const Batch batch{offsets, ranges, (int)sequences, (int)queries, (int)rows, causal};                 \
  const Dropout dropout{random, stream, threshold, factor};
