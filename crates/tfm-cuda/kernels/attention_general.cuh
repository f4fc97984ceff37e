// Flash attention, forward, with all that the op knows: one or two sets of keys by ranges that share a softmax, groups of heads,
// windows, biases, a cap of the scores. The loop is that of `attention_forward.cuh`. It goes through the sequences of each set
// that have queries of the block, and there through the keys that some of these queries see.
//
// Floor: that of `attention_forward.cuh`, with a window only for the keys within. The cap costs two operations of the special
// function units a score, where a weight costs one.
#pragma once
#include "attention_forward.cuh"
#include "key_sets.cuh"

namespace {

// To about 10^-7, not as a share: scores have a size of 1 and more.
__device__ float quick_tanh(float x) {
  const float y = power_of_2(-2.f * LOG2_E * fabsf(x));
  return copysignf(__fdividef(1.f - y, 1.f + y), x);
}

// Blocks: tiles of the queries of the first set's sequences (`tile_of`), heads. Threads: 128. Shared memory: as of `attention`, with
// the biases of both sets one after the other. `cap`: 0 for none; `scale` then comes divided by it. Only one set has a dropout.
template <typename T, int D>
__device__ void attention_general(const Rows<T>& query, int queries, int size, float scale, float cap, const Dropout& dropout,
                                  int sets, const KeySet<T>& one, const Buckets& buckets_one, const KeySet<T>& two,
                                  const Buckets& buckets_two, T* context, float* log_sum_exp) {
  constexpr int KEYS = D > 128 ? 16 : 32, N = KEYS / 8, WIDE = D + GAP;
  constexpr bool IN_REGISTERS = D <= 128;
  T* const stages = reinterpret_cast<T*>(memory);
  auto keys = [&](int tile) { return stages + tile % 2 * 2 * KEYS * WIDE; };
  auto values = [&](int tile) { return keys(tile) + KEYS * WIDE; };
  T* const own_queries = IN_REGISTERS ? stages : stages + 4 * KEYS * WIDE;
  float* rest = reinterpret_cast<float*>(stages + (4 * KEYS + (IN_REGISTERS ? 0 : TILE)) * WIDE);

  const int head = blockIdx.y, heads = gridDim.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Batch batch{one.first, one.second, one.n, queries, one.rows, one.causal};
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return;
  const Sequence own_sequence = sequence_of(batch, s);
  if (from >= own_sequence.length) return;
  const int rows = min(TILE, own_sequence.length - from), first = own_sequence.first + from;

  copy_rows<D, TILE>(own_queries, query.at(first, head), query.row, rows, size);
  commit();
  const Distances biases_one = lay_out(rest, one.biases, buckets_one, head, heads);
  const Distances biases_two = lay_out(rest, sets > 1 ? two.biases : nullptr, buckets_two, head, heads);
  unsigned char* const kept = reinterpret_cast<unsigned char*>(rest);
  uint32_t q[IN_REGISTERS ? D / 16 : 1][4];
  if (IN_REGISTERS) {
    wait<0>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < D / 16; k++) load_own<D>(q[IN_REGISTERS ? k : 0], own_queries, k * 16);
    __syncthreads();
  }
  auto own = [&](uint32_t (&a)[4], int k) {
    if (IN_REGISTERS) {
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = q[IN_REGISTERS ? k : 0][i];
    } else {
      load_own<D>(a, own_queries, k * 16);
    }
  };

  Seen<D> so_far;
  clear(so_far.out);
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2;
#pragma unroll 1
  for (int n = 0; n < sets; n++) {
    const KeySet<T> set = n == 0 ? one : two;
    const Distances biases = n == 0 ? biases_one : biases_two;
    const int key_head = head / set.group;
    each_sequence(set, queries, first, first + rows, [&](const Sequence& sequence, int begin, int end) {
      // What the thread's two rows see, and what all of the sequence's queries in the block see: no key between is unseen. What lies
      // outside of that may be NaN, and counts as zeros.
      const Span spans[2] = {span_in(set, sequence, begin, end, first + row), span_in(set, sequence, begin, end, first + row + 8)};
      const Span before = span_in(set, sequence, begin, end, begin), after = span_in(set, sequence, begin, end, end - 1);
      const bool all_rows = begin == first && end == first + rows;
      const int tiles = (after.to - before.from + KEYS - 1) / KEYS;
      auto fetch = [&](int tile) {
        const int at = before.from + tile * KEYS, count = after.to - at;
        copy_rows<D, KEYS>(keys(tile), set.key.at(sequence.start + at, key_head), set.key.row, count, size);
        copy_rows<D, KEYS>(values(tile), set.value.at(sequence.start + at, key_head), set.value.row, count, size);
        commit();
      };
      if (tiles > 0) fetch(0);
#pragma unroll 1
      for (int tile = 0; tile < tiles; tile++) {
        const int at = before.from + tile * KEYS;
        if (tile + 1 < tiles) fetch(tile + 1);
        if (dropout.key) {
          const int64_t position = ((int64_t)head * queries + first) * set.rows + sequence.start + at;
          draw<TILE, KEYS>(kept, dropout, position, set.rows);
        }
        if (tile + 1 < tiles) wait<1>();
        else wait<0>();
        __syncthreads();
        float p[N][4];
        scores<D, N>(p, own, keys(tile));
#pragma unroll
        for (int j = 0; j < N; j++)
#pragma unroll
          for (int e = 0; e < 4; e++) p[j][e] *= scale;
        if (cap > 0.f) {
#pragma unroll
          for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) p[j][e] = cap * quick_tanh(p[j][e]);
        }
        if (biases.centre) {
#pragma unroll
          for (int j = 0; j < N; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) p[j][e] += biases.of(at + j * 8 + column + e % 2 - spans[e / 2].position);
        }
        const bool whole = all_rows && at >= after.from && at + KEYS <= before.to;
        so_far.weigh(p, LOG2_E, [&](float& score, int r, int j, int c) {
          if (!whole && !spans[r].has(at + j * 8 + column + c)) score = -INFINITY;
        });
        if (dropout.key) so_far.drop(p, kept, row, column);
        accumulate<D, N, D / 8>(so_far.out, p, values(tile));
        __syncthreads();
      }
    });
  }
  // Where no key is seen, the queries may still be on their way.
  if (!IN_REGISTERS) wait<0>();

  so_far.store(context, log_sum_exp, stages, first, rows, size, dropout.factor);
}

}  // namespace

#define ATTENTION_GENERAL(T, D)                                                                                     \
  KERNEL __launch_bounds__(THREADS, D <= 64 ? 3 : 1)                                                                \
      attention_general_##T##_##D(GENERAL_ARGUMENTS(T), T* context, float* log_sum_exp) {                           \
    GENERAL_OPERANDS(T)                                                                                             \
    attention_general<T, D>(q, queries, size, scale, cap, dropout, sets, one, one_buckets, two, two_buckets, context, \
                            log_sum_exp);                                                                           \
  }
