// Attention, forward, in f32 arithmetic with all that the op knows: one or two sets of keys by ranges that share a softmax, groups
// of heads, windows, biases, a cap of the scores.
#include "attention_plain.cuh"
#include "key_sets.cuh"

namespace {

// Blocks: tiles of the queries of the first set's sequences (`tile_of`), heads. Threads: 256. Shared memory: two tiles, then the
// biases of both sets. `cap`: 0 for none; `scale` then comes divided by it. Only one set has a dropout.
template <typename T>
__device__ void attention_general(const Rows<T>& query, int queries, int size, float scale, float cap, const Dropout& dropout,
                                  int sets, const KeySet<T>& one, const Buckets& buckets_one, const KeySet<T>& two,
                                  const Buckets& buckets_two, T* context, float* log_sum_exp) {
  const int head = blockIdx.y, heads = gridDim.y, row = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  float *const own_queries = memory, *const passing = memory + TILE * wide(size);
  const Batch batch{one.first, one.second, one.n, queries, one.rows, one.causal};
  int s, from;
  if (!tile_of<TILE>(batch, blockIdx.x, s, from)) return;
  const Sequence own_sequence = sequence_of(batch, s);
  if (from >= own_sequence.length) return;
  const int rows = min(TILE, own_sequence.length - from), first = own_sequence.first + from;

  copy_rows(own_queries, query.at(first, head), query.row, rows, size);
  float* rest = passing + TILE * wide(size);
  const Distances biases_one = lay_out(rest, one.biases, buckets_one, head, heads);
  const Distances biases_two = lay_out(rest, sets > 1 ? two.biases : nullptr, buckets_two, head, heads);
  Seen so_far;
#pragma unroll 1
  for (int n = 0; n < sets; n++) {
    const KeySet<T> set = n == 0 ? one : two;
    const Distances biases = n == 0 ? biases_one : biases_two;
    const int key_head = head / set.group;
    each_sequence(set, queries, first, first + rows, [&](const Sequence& sequence, int begin, int end) {
      // What the thread's row sees, and what all of the sequence's queries in the block see: no key between is unseen. What lies
      // outside of that may be NaN, and counts as zeros.
      const Span span = span_in(set, sequence, begin, end, first + row);
      const int first_key = span_in(set, sequence, begin, end, begin).from, end_key = span_in(set, sequence, begin, end, end - 1).to;
      const int64_t position = ((int64_t)head * queries + first + row) * set.rows + sequence.start;
#pragma unroll 1
      for (int at = first_key; at < end_key; at += TILE) {
        copy_rows(passing, set.key.at(sequence.start + at, key_head), set.key.row, end_key - at, size);
        __syncthreads();
        float p[N];
        products(p, own_queries + row * wide(size), passing, size);
#pragma unroll
        for (int c = 0; c < N; c++) {
          const int j = at + lane + LANES * c;
          p[c] *= scale;
          if (cap > 0.f) p[c] = cap * tanhf(p[c]);
          if (biases.centre) p[c] += biases.of(j - span.position);
          if (!span.has(j)) p[c] = -INFINITY;
        }
        so_far.weigh(p, kept_of(dropout, position + at + lane, 1));
        __syncthreads();
        copy_rows(passing, set.value.at(sequence.start + at, key_head), set.value.row, end_key - at, size);
        __syncthreads();
        accumulate(so_far.out, p, passing, size);
        __syncthreads();
      }
    });
  }
  so_far.store(context, log_sum_exp, first + row, row < rows, size, dropout.factor);
}

}  // namespace

#define PLAIN_GENERAL(T)                                                                                              \
  KERNEL __launch_bounds__(THREADS, 1)                                                                                \
      attention_plain_general_##T(GENERAL_ARGUMENTS(T), T* context, float* log_sum_exp) {                             \
    GENERAL_OPERANDS(T)                                                                                               \
    attention_general<T>(q, queries, size, scale, cap, dropout, sets, one, one_buckets, two, two_buckets, context,    \
                         log_sum_exp);                                                                                \
  }

PLAIN_GENERAL(f32)
PLAIN_GENERAL(f16)
PLAIN_GENERAL(bf16)
