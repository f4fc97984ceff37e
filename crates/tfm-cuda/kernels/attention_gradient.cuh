// Flash attention, backward, by mma.sync (FlashAttention-2, Dao 2023, algorithm 2) without atomic operations: one kernel has 64
// queries a block and goes through their keys for dQ, one has 64 keys and goes through the queries that see them for dK
// and dV. Both are the same loop: a pair of own tiles (query and d_context, or key and value), a pair of tiles that pass
// by, their two products, and what these weigh added up. The weights come from the saved log of sums.
//
// Floor: 14 q k size operations a head on the tensor cores, where one kernel for all three would have 10; bytes as for
// the forward pass, twice. For size > 128, dK and dV are computed in two halves of their columns: 20.
#pragma once
#include "attention_tiles.cuh"

namespace {

template <int D> struct Plan {
  static constexpr int STREAM = D <= 128 ? 32 : 16;  // rows of a tile that passes by
  static constexpr int STAGES = D <= 128 ? 2 : 1;
};

// What the kernels need beside the operands.
template <typename T> struct Saved {
  Rows<T> d_context;
  const float2* sums;  // [heads, queries]: log Σ exp of a query's scores, and rowsum(dO∘O): `attention_rows`
};

// The tiles of a block: two of its own, then STAGES pairs that pass by, then as many times the sums of STREAM queries, a word a
// warp, then what biases need, then the bytes of `draw`.
template <typename T, int D> struct Tiles {
  static constexpr int STREAM = Plan<D>::STREAM, STAGES = Plan<D>::STAGES, WIDE = D + GAP;
  __device__ T* own(int i) const { return reinterpret_cast<T*>(memory) + i * TILE * WIDE; }
  __device__ T* passing(int i, int tile) const { return own(2) + (tile % STAGES * 2 + i) * STREAM * WIDE; }
  __device__ float2* sums(int tile) const {
    return reinterpret_cast<float2*>(own(2) + STAGES * 2 * STREAM * WIDE) + tile % STAGES * STREAM;
  }
  __device__ uint32_t* hits() const { return reinterpret_cast<uint32_t*>(sums(0) + STAGES * STREAM); }
  __device__ float* for_biases() const { return reinterpret_cast<float*>(hits() + WARPS); }
};

// The weight of a score, and the gradient of the score without its scale: P = exp(scale S - L), dS = P∘(dP - D). Both are 0
// where the score is not visible, whatever the operands hold: what no query sees may be NaN, and `d_known` is then false.
__device__ void weigh(float& score, float& d_score, bool visible, bool d_known, bool kept, float to_log2, float factor,
                      float2 sums) {
  const float weight = visible ? power_of_2(fmaf(score, to_log2, -sums.x * LOG2_E)) : 0.f;
  d_score = weight * ((kept && d_known ? d_score * factor : 0.f) - sums.y);
  score = kept ? weight : 0.f;
}

// The sums of `count` queries, padded with zeros.
template <int STREAM> __device__ void copy_sums(float2* to, const float2* from, int count) {
  const int i = threadIdx.x;
  if (i < STREAM)
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to + i)),
                 "l"(i < count ? from + i : from), "r"(i < count ? 8 : 0) : "memory");
}

// Goes through the tiles `begin .. end` that pass by; `fetch(tile, stage's tiles)` starts their copies, `use` computes with them.
template <int STAGES, typename Fetch, typename Draw, typename Use>
__device__ void pass_by(int begin, int end, Fetch fetch, Draw draw, Use use) {
  if (STAGES == 2 && begin < end) fetch(begin);
  for (int tile = begin; tile < end; tile++) {
    if (STAGES == 1) fetch(tile);
    else if (tile + 1 < end) fetch(tile + 1);
    draw(tile);
    if (STAGES == 2 && tile + 1 < end) wait<1>();
    else wait<0>();
    __syncthreads();
    use(tile);
    __syncthreads();
  }
}

// Blocks: tiles of queries (`tile_of`), heads. With biases also the sums of the scores' gradients by distance, of each block.
template <typename T, int D, typename Bias>
__device__ void query_gradient(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                               float scale, const Dropout& dropout, Bias bias, const Saved<T>& saved, T* d_query) {
  constexpr int STREAM = Plan<D>::STREAM, N = STREAM / 8;
  typedef DistanceSums<Bias, TILE, STREAM> Sums;
  const Tiles<T, D> tiles;
  float* const floats = tiles.for_biases();
  unsigned char* const kept_bytes = reinterpret_cast<unsigned char*>(floats + 2 * bias.floats() + Sums::tile_floats());
  const int head = blockIdx.y, heads = gridDim.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return store_no_sums(bias);
  const Sequence sequence = sequence_of(batch, s);
  if (from >= sequence.length) return store_no_sums(bias);
  const int rows = min(TILE, sequence.length - from), first = sequence.first + from;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2;

  copy_rows<D, TILE>(tiles.own(0), query.at(first, head), query.row, rows, size);
  copy_rows<D, TILE>(tiles.own(1), saved.d_context.at(first, head), saved.d_context.row, rows, size);
  commit();
  bias.prepare(floats, head, heads);
  float2 sums[2];
  int seen[2], position[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    sums[r] = saved.sums[(int64_t)head * batch.queries + first + min(row + 8 * r, rows - 1)];
    seen[r] = sequence.visible(from + row + 8 * r);
    position[r] = sequence.position(from + row + 8 * r);
  }
  float out[D / 8][4];
  clear(out);
  const float to_log2 = Bias::SOME ? LOG2_E : scale * LOG2_E;

  auto fetch = [&](int tile) {
    const int at = sequence.start + tile * STREAM, n = sequence.count - tile * STREAM;
    copy_rows<D, STREAM>(tiles.passing(0, tile), key.at(at, head), key.row, n, size);
    copy_rows<D, STREAM>(tiles.passing(1, tile), value.at(at, head), value.row, n, size);
    commit();
  };
  auto draw_tile = [&](int tile) {
    if (!dropout.key) return;
    const int64_t position = ((int64_t)head * batch.queries + first) * batch.rows + sequence.start + tile * STREAM;
    draw<TILE, STREAM>(kept_bytes, dropout, position, batch.rows);
  };
  Sums by_distance(floats + bias.floats(), floats + 2 * bias.floats(), bias);
  auto use = [&](int tile) {
    float p[N][4], d[N][4];
    scores<D, N>(p, [&](uint32_t (&a)[4], int k) { load_own<D>(a, tiles.own(0), k * 16); }, tiles.passing(0, tile));
    scores<D, N>(d, [&](uint32_t (&a)[4], int k) { load_own<D>(a, tiles.own(1), k * 16); }, tiles.passing(1, tile));
    uint32_t kept = UINT32_MAX;
    if (dropout.key) {
      kept = 0;
#pragma unroll
      for (int j = 0; j < N; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          kept |= kept_bytes[(row + e / 2 * 8) * (STREAM + 4) + j * 8 + column + e % 2] << (4 * j + e);
    }
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int r = e / 2, at = j * 8 + column + e % 2;
        if (Bias::SOME) p[j][e] = fmaf(p[j][e], scale, bias.of(tile * STREAM + at - position[r]));
        weigh(p[j][e], d[j][e], tile * STREAM + at < seen[r], true, kept >> (4 * j + e) & 1, to_log2, dropout.factor, sums[r]);
      }
    if constexpr (Bias::SOME) {
      // Rows without a query have weights too.
#pragma unroll
      for (int j = 0; j < N; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          const int own = row + e / 2 * 8;
          by_distance.put(own, j * 8 + column + e % 2, own < rows ? d[j][e] : 0.f);
        }
      __syncthreads();
      by_distance.add(tile * STREAM - sequence.position(from));
    }
    accumulate<D, N, D / 8>(out, d, tiles.passing(0, tile));
  };
  const int most = sequence.visible(from + rows - 1);
  pass_by<Plan<D>::STAGES>(0, (most + STREAM - 1) / STREAM, fetch, draw_tile, use);

  wait<0>();
  __syncthreads();
  put_rows<D>(tiles.own(0), out, scale, scale);
  by_distance.gather();
  __syncthreads();
  by_distance.store(bias);
  store_rows<D>(d_query + ((int64_t)first * heads + head) * size, (int64_t)heads * size, tiles.own(0), rows, size);
}

// Blocks: tiles of rows, heads, parts of 128 columns. All rows are written. The sequences are looked at THREADS at a time, and
// those that have rows of the block are gone through in their order.
template <typename T, int D, typename Bias>
__device__ void key_gradient(const Rows<T>& query, const Rows<T>& key, const Rows<T>& value, const Batch& batch, int size,
                             float scale, const Dropout& dropout, Bias bias, const Saved<T>& saved, T* d_key, T* d_value) {
  constexpr int STREAM = Plan<D>::STREAM, N = STREAM / 8, COLUMNS = D < 128 ? D : 128;
  const Tiles<T, D> tiles;
  float* const floats = tiles.for_biases();
  unsigned char* const kept_bytes = reinterpret_cast<unsigned char*>(floats + bias.floats());
  const int head = blockIdx.y, heads = gridDim.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = blockIdx.x * TILE, rows = min(TILE, batch.rows - first), part = blockIdx.z * COLUMNS;
  const int row = warp * 16 + lane / 4, column = lane % 4 * 2;

  copy_rows<D, TILE>(tiles.own(0), key.at(first, head), key.row, rows, size);
  copy_rows<D, TILE>(tiles.own(1), value.at(first, head), value.row, rows, size);
  commit();
  bias.prepare(floats, head, heads);
  float out_key[COLUMNS / 8][4], out_value[COLUMNS / 8][4];
  clear(out_key);
  clear(out_value);
  const float to_log2 = Bias::SOME ? LOG2_E : scale * LOG2_E;

  for (int base = 0; base < batch.sequences; base += THREADS) {
    bool hit = false;
    if (base + (int)threadIdx.x < batch.sequences) {
      const Sequence mine = sequence_of(batch, base + threadIdx.x);
      hit = mine.length > 0 && mine.start < first + rows && mine.start + mine.count > first && mine.count > 0;
    }
    const uint32_t of_warp = __ballot_sync(0xffffffffu, hit);
    if (lane == 0) tiles.hits()[warp] = of_warp;
    __syncthreads();
    for (int w = 0; w < WARPS; w++)
      for (uint32_t left = tiles.hits()[w]; left; left &= left - 1) {
        const Sequence sequence = sequence_of(batch, base + w * 32 + __ffs(left) - 1);
        // Rows of the block are keys `offset` and more of the sequence. Key j is seen by the queries from j - lead on.
        const int offset = first - sequence.start;
        auto seen_from = [&](int i) { return batch.causal ? max(0, offset + i - sequence.lead) : 0; };
        int from[2];
#pragma unroll
        for (int r = 0; r < 2; r++) {
          const int j = offset + row + 8 * r;
          from[r] = j >= 0 && j < sequence.count ? seen_from(row + 8 * r) : INT32_MAX;
        }
        const bool idle = offset + warp * 16 >= sequence.count || offset + warp * 16 + 16 <= 0;
        auto fetch = [&](int tile) {
          const int at = sequence.first + tile * STREAM, n = sequence.length - tile * STREAM;
          copy_rows<D, STREAM>(tiles.passing(0, tile), query.at(at, head), query.row, n, size);
          copy_rows<D, STREAM>(tiles.passing(1, tile), saved.d_context.at(at, head), saved.d_context.row, n, size);
          copy_sums<STREAM>(tiles.sums(tile), saved.sums + (int64_t)head * batch.queries + at, n);
          commit();
        };
        auto draw_tile = [&](int tile) {
          if (!dropout.key) return;
          const int64_t query = (int64_t)head * batch.queries + sequence.first + tile * STREAM;
          draw<STREAM, TILE>(kept_bytes, dropout, query * batch.rows + first, batch.rows);
        };
        auto use = [&](int tile) {
          if (idle) return;
          float p[N][4], d[N][4];
          scores<D, N>(p, [&](uint32_t (&a)[4], int k) { load_own<D>(a, tiles.own(0), k * 16); }, tiles.passing(0, tile));
          scores<D, N>(d, [&](uint32_t (&a)[4], int k) { load_own<D>(a, tiles.own(1), k * 16); }, tiles.passing(1, tile));
          uint32_t kept = UINT32_MAX;
          if (dropout.key) {
            kept = 0;
#pragma unroll
            for (int j = 0; j < N; j++)
#pragma unroll
              for (int e = 0; e < 4; e++)
                kept |= kept_bytes[(j * 8 + column + e % 2) * (TILE + 4) + row + e / 2 * 8] << (4 * j + e);
          }
#pragma unroll
          for (int j = 0; j < N; j++) {
            const float4 both = *reinterpret_cast<const float4*>(tiles.sums(tile) + j * 8 + column);
#pragma unroll
            for (int e = 0; e < 4; e++) {
              const int i = tile * STREAM + j * 8 + column + e % 2;
              const bool visible = i >= from[e / 2] && i < sequence.length;
              if (Bias::SOME)
                p[j][e] = fmaf(p[j][e], scale, bias.of(offset + row + e / 2 * 8 - sequence.position(i)));
              const float2 sums = e % 2 ? make_float2(both.z, both.w) : make_float2(both.x, both.y);
              weigh(p[j][e], d[j][e], visible, visible, kept >> (4 * j + e) & 1, to_log2, dropout.factor, sums);
            }
          }
          accumulate<D, N, COLUMNS / 8>(out_key, d, tiles.passing(0, tile) + part);
          accumulate<D, N, COLUMNS / 8>(out_value, p, tiles.passing(1, tile) + part);
        };
        const int begin = seen_from(max(0, -offset)) / STREAM;
        pass_by<Plan<D>::STAGES>(begin, (sequence.length + STREAM - 1) / STREAM, fetch, draw_tile, use);
      }
    __syncthreads();
  }

  wait<0>();
  __syncthreads();
  put_rows<D>(tiles.own(0), out_key, scale, scale);
  put_rows<D>(tiles.own(1), out_value, dropout.factor, dropout.factor);
  __syncthreads();
  const int64_t to = ((int64_t)first * heads + head) * size + part, stride = (int64_t)heads * size;
  const int width = min(COLUMNS, size - part);
  store_rows<D>(d_key + to, stride, tiles.own(0), rows, width);
  store_rows<D>(d_value + to, stride, tiles.own(1), rows, width);
}

}  // namespace

#define GRADIENTS(NAME, T, D, BIAS)                                                                                   \
  KERNEL __launch_bounds__(THREADS) NAME##_query_gradient_##T##_##D(ATTENTION_ARGUMENTS(T), const T* d_context,       \
                                                                    const float2* sums, T* d_query BIAS##_SUMS) {    \
    ATTENTION_OPERANDS(T)                                                                                             \
    BIAS##_SUMS_OPERAND                                                                                               \
    const Saved<T> saved{{d_context, (int64_t)gridDim.y * size, size}, sums};                                         \
    query_gradient<T, D>(q, k, v, batch, size, scale, dropout, bias, saved, d_query);                                 \
  }                                                                                                                   \
  KERNEL __launch_bounds__(THREADS)                                                                                   \
      NAME##_key_gradient_##T##_##D(ATTENTION_ARGUMENTS(T), const T* d_context, const float2* sums, T* d_key,         \
                                    T* d_value BIAS##_ARGUMENTS) {                                                    \
    ATTENTION_OPERANDS(T)                                                                                             \
    BIAS##_OPERAND                                                                                                    \
    const Saved<T> saved{{d_context, (int64_t)gridDim.y * size, size}, sums};                                         \
    key_gradient<T, D>(q, k, v, batch, size, scale, dropout, bias, saved, d_key, d_value);                            \
  }
