// Flash attention, forward, by mma.sync (FlashAttention-2, Dao 2023, algorithm 1). A block has 64 queries of one head of
// one sequence and goes through their keys in tiles, which two stages of cp.async bring.
//
// Floor: 4 q k size operations a head on the tensor cores; bytes of query and context once, of key and value once for every 64
// queries, which the second-level cache gives. 1 in 8 of the keys' matrices is read twice where size > 128: the queries
// then stay in shared memory.
#pragma once
#include "attention_tiles.cuh"

namespace {

// What the rows lane / 4 and 8 more of a warp's 16 have seen so far: the largest score, the sum of exponentials, the context.
// The largest score is times log2(e), for powers of 2.
template <int D> struct Seen {
  float sum[2] = {0.f, 0.f}, largest[2] = {-INFINITY, -INFINITY}, out[D / 8][4];

  // Makes weights of a tile's scores, which `to_log2` multiplies by log2(e). `finish` gives a score what its product lacks.
  template <int N, typename Finish> __device__ void weigh(float (&p)[N][4], float to_log2, Finish finish) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float most_here = -INFINITY;
#pragma unroll
      for (int j = 0; j < N; j++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          float& score = p[j][2 * r + c];
          finish(score, r, j, c);
          most_here = fmaxf(most_here, score);
        }
      most_here = fmaxf(most_here, __shfl_xor_sync(0xffffffffu, most_here, 1));
      most_here = fmaxf(most_here, __shfl_xor_sync(0xffffffffu, most_here, 2));
      most_here = fmaxf(largest[r], most_here * to_log2);
      // Where a row has seen no key yet all its scores are -∞, and so would be the shift.
      const float shift = most_here == -INFINITY ? 0.f : most_here;
      const float shrink = power_of_2(largest[r] - shift);
      largest[r] = most_here;
      float here = 0.f;
#pragma unroll
      for (int j = 0; j < N; j++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          float& score = p[j][2 * r + c];
          score = power_of_2(fmaf(score, to_log2, -shift));
          here += score;
        }
      sum[r] = sum[r] * shrink + here;
#pragma unroll
      for (int i = 0; i < D / 8; i++) out[i][2 * r] *= shrink, out[i][2 * r + 1] *= shrink;
    }
  }

  // Leaves out the weights that are not `kept`, as `draw` says.
  template <int N> __device__ void drop(float (&p)[N][4], const unsigned char* kept, int row, int column) {
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
      for (int j = 0; j < N; j++) {
        const uchar2 both = *reinterpret_cast<const uchar2*>(kept + (row + 8 * r) * (8 * N + 4) + j * 8 + column);
        if (!both.x) p[j][2 * r] = 0.f;
        if (!both.y) p[j][2 * r + 1] = 0.f;
      }
  }

  // Stores the results of the block's `rows` queries from `first` on. They pass through `tile`.
  template <typename T>
  __device__ void store(T* context, float* log_sum_exp, T* tile, int first, int rows, int size, float factor) {
    const int head = blockIdx.y, heads = gridDim.y, lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 1);
      sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], 2);
      const bool some = sum[r] > 0.f;
      inverse[r] = some ? factor / sum[r] : 0.f;
      if (lane % 4 == 0 && row + 8 * r < rows)
        log_sum_exp[(int64_t)(first + row + 8 * r) * heads + head] = some ? fmaf(largest[r], LN_2, logf(sum[r])) : 0.f;
    }
    put_rows<D>(tile, out, inverse[0], inverse[1]);
    __syncthreads();
    store_rows<D>(context + ((int64_t)first * heads + head) * size, (int64_t)heads * size, tile, rows, size);
  }
};

// Blocks: tiles of queries (`tile_of`), heads. Threads: 128. Shared memory: two stages of keys and values, the queries where
// they are not kept in registers, the biases by distance, then the bytes of `draw` where there is a dropout.
template <typename T, int D, typename Bias>
__device__ void attention(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                          float scale, const Dropout& dropout, Bias bias, T* context, float* log_sum_exp) {
  constexpr int KEYS = D > 128 ? 16 : 64, N = KEYS / 8, WIDE = D + GAP;
  constexpr bool IN_REGISTERS = D <= 128;
  T* const stages = reinterpret_cast<T*>(memory);
  auto keys = [&](int tile) { return stages + tile % 2 * 2 * KEYS * WIDE; };
  auto values = [&](int tile) { return keys(tile) + KEYS * WIDE; };
  // The queries pass through the memory of the first keys if they go to registers, and so do the results.
  T* const queries = IN_REGISTERS ? stages : stages + 4 * KEYS * WIDE;
  unsigned char* const rest = reinterpret_cast<unsigned char*>(stages + (4 * KEYS + (IN_REGISTERS ? 0 : TILE)) * WIDE);
  unsigned char* const kept = Bias::SOME ? rest + sizeof(float) * bias.floats() : rest;

  const int head = blockIdx.y, heads = gridDim.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return;
  const Sequence sequence = sequence_of(batch, s);
  if (from >= sequence.length) return;
  const int rows = min(TILE, sequence.length - from), first = sequence.first + from;
  const int most = sequence.visible(from + rows - 1), least = sequence.visible(from);
  const int tiles = (most + KEYS - 1) / KEYS;

  copy_rows<D, TILE>(queries, query.at(first, head), query.row, rows, size);
  commit();
  bias.prepare(reinterpret_cast<float*>(rest), head, heads);
  uint32_t q[IN_REGISTERS ? D / 16 : 1][4];
  if (IN_REGISTERS) {
    wait<0>();
    __syncthreads();
#pragma unroll
    for (int k = 0; k < D / 16; k++) load_own<D>(q[IN_REGISTERS ? k : 0], queries, k * 16);
    __syncthreads();
  }
  auto own = [&](uint32_t (&a)[4], int k) {
    if (IN_REGISTERS) {
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = q[IN_REGISTERS ? k : 0][i];
    } else {
      load_own<D>(a, queries, k * 16);
    }
  };
  auto fetch = [&](int tile) {
    const int at = tile * KEYS, n = sequence.count - at;
    copy_rows<D, KEYS>(keys(tile), key.at(sequence.start + at, head), key.row, n, size);
    copy_rows<D, KEYS>(values(tile), value.at(sequence.start + at, head), value.row, n, size);
    commit();
  };

  Seen<D> so_far;
  clear(so_far.out);
  // Where there are no biases the scale comes with that.
  const float to_log2 = Bias::SOME ? LOG2_E : scale * LOG2_E;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2;
  const int seen[2] = {sequence.visible(from + row), sequence.visible(from + row + 8)};
  const int position[2] = {sequence.position(from + row), sequence.position(from + row + 8)};

  if (tiles > 0) fetch(0);
  for (int tile = 0; tile < tiles; tile++) {
    if (tile + 1 < tiles) fetch(tile + 1);
    if (dropout.key) {
      const int64_t position = ((int64_t)head * batch.queries + first) * batch.rows + sequence.start + tile * KEYS;
      draw<TILE, KEYS>(kept, dropout, position, batch.rows);
    }
    if (tile + 1 < tiles) wait<1>();
    else wait<0>();
    __syncthreads();
    float p[N][4];
    scores<D, N>(p, own, keys(tile));
    const bool whole = (tile + 1) * KEYS <= least;
    so_far.weigh(p, to_log2, [&](float& score, int r, int j, int c) {
      if (Bias::SOME) score = fmaf(score, scale, bias.of(tile * KEYS + j * 8 + column + c - position[r]));
      if (!whole && tile * KEYS + j * 8 + column + c >= seen[r]) score = -INFINITY;
    });
    if (dropout.key) so_far.drop(p, kept, row, column);
    accumulate<D, N, D / 8>(so_far.out, p, values(tile));
    __syncthreads();
  }
  if (!IN_REGISTERS && tiles == 0) wait<0>();

  so_far.store(context, log_sum_exp, stages, first, rows, size, dropout.factor);
}

}  // namespace

#define ATTENTION(NAME, T, D, BIAS)                                                              \
  KERNEL __launch_bounds__(THREADS, D <= 64 ? 4 : 1)                                             \
      NAME##_##T##_##D(ATTENTION_ARGUMENTS(T), T* context, float* log_sum_exp BIAS##_ARGUMENTS) { \
    ATTENTION_OPERANDS(T)                                                                        \
    BIAS##_OPERAND                                                                               \
    attention<T, D>(q, k, v, batch, size, scale, dropout, bias, context, log_sum_exp);           \
  }
