// Attention of single queries with all that the op knows: one or two sets of keys, each by ranges or by a table, that share a
// softmax, groups of heads, windows, biases, a cap of the scores.
//
// The keys that a query sees are cut into chunks of CHUNK, from the first one in the window on, those of the second set behind those
// of the first. The blocks of a query take its chunks in turn, and how many blocks there are depends on no query. So a query
// has the same bits in any company. The heads of a group are neighbouring blocks, so that all but one find the keys in the cache.
#include "row_table_attention.cuh"
#include "key_sets.cuh"

namespace {

// The keys of one query in a set.
struct List {
  Span span;
  const int* table;  // by a table: its rows
  int start;         // by a range: the row of key 0
  __device__ int row(int key) const { return table ? table[key] : start + key; }
  __device__ int chunks() const { return (span.to - span.from + CHUNK - 1) / CHUNK; }
};

template <typename T> __device__ List list_of(const KeySet<T>& set, int queries, int query) {
  if (set.table) {
    const int length = min(max(set.second[query], 0), set.n);
    // The query stands at the last key.
    return {span_of(set, length, length - 1), set.first + (int64_t)query * set.n, 0};
  }
  List found = {{0, 0, 0}, nullptr, 0};
  each_sequence(set, queries, query, query + 1, [&](const Sequence& sequence, int begin, int end) {
    found = {span_in(set, sequence, begin, end, query), nullptr, sequence.start};
  });
  return found;
}

// context [queries, heads, d_head] if there is one part; otherwise partial [queries, heads, parts, d_head + 2], as `attend`.
// Blocks: queries × heads, parts.
template <typename T, int LANES, int VECTORS, int WIDTH>
__device__ void attend_general(const Rows<T>& query, int queries, int heads, int d_head, float scale, float cap, int sets,
                               const KeySet<T>& one, const Buckets& buckets_one, const KeySet<T>& two,
                               const Buckets& buckets_two, T* context, float* partial) {
  constexpr int N = VECTORS * WIDTH;
  const int i = blockIdx.x / heads, head = blockIdx.x % heads, number = blockIdx.y, parts_of_all = gridDim.y;
  float* const biases = parts + WARPS * (d_head + 2);
  Slice<T, WIDTH, VECTORS> q;
  q.load(query.at(i, head), threadIdx.x % LANES * WIDTH, LANES * WIDTH, d_head);
  Part<N> part = {-INFINITY, 0.f, {}};
  int chunk = number, before = 0;
#pragma unroll 1
  for (int n = 0; n < sets; n++) {
    const KeySet<T> set = n == 0 ? one : two;
    const List list = list_of(set, queries, i);
    const Heads<T> key{set.key.at(0, head / set.group), set.key.row, set.key.head};
    const Heads<T> value{set.value.at(0, head / set.group), set.value.row, set.value.head};
#pragma unroll 1
    for (; chunk - before < list.chunks(); chunk += parts_of_all) {
      const int from = list.span.from + (chunk - before) * CHUNK, end = min(list.span.to, from + CHUNK);
      if (set.biases) {
        __syncthreads();
        if (threadIdx.x < end - from) {
          const int distance = from + (int)threadIdx.x - list.span.position;
          const int bucket = n == 0 ? bucket_of(buckets_one, distance) : bucket_of(buckets_two, distance);
          biases[threadIdx.x] = set.biases[bucket * heads + head];
        }
        __syncthreads();
      }
      part = see<LANES>(part, q, key, value, (Count)set.rows, from, end, d_head, [&](int at) { return list.row(at); },
                 [&](float dot, int at) {
                   float score = dot * scale;
                   if (cap > 0.f) score = cap * tanhf(score);
                   return set.biases ? score + biases[at - from] : score;
                 });
    }
    before += list.chunks();
  }
  finish<LANES, WIDTH>(part, blockIdx.x, number, parts_of_all, d_head, context, partial);
}

// The second launch: a thread an element of the context goes through the parts.
template <typename T> __device__ void merge_parts(const float* partial, int d_head, int parts_of_all, T* context, Count n) {
  const Count i = index();
  if (i >= n) return;
  const int at = i % d_head;
  const float* from = partial + (int64_t)(i / d_head) * parts_of_all * (d_head + 2);
  Part<1> all = {from[d_head], from[d_head + 1], {from[at]}};
  for (int number = 1; number < parts_of_all; number++) {
    from += d_head + 2;
    all.merge(from[d_head], from[d_head + 1], {from[at]});
  }
  context[i] = convert<T>(result(all));
}

}  // namespace

#define ATTEND_GENERAL(T, NAME, LANES, VECTORS, WIDTH)                                                                  \
  KERNEL __launch_bounds__(32 * WARPS) row_table_attention_general_##T##_##NAME(                                        \
      const T* query, int64_t query_row, int64_t query_head, Count queries, Count heads, Count d_head, float scale,     \
      float cap, int sets, KEY_SET_ARGUMENTS(T, one), KEY_SET_ARGUMENTS(T, two), T* context, float* partial) {          \
    const Rows<T> q{query, query_row, query_head};                                                                      \
    KEY_SET(T, one)                                                                                                     \
    KEY_SET(T, two)                                                                                                     \
    attend_general<T, LANES, VECTORS, WIDTH>(q, queries, heads, d_head, scale, cap, sets, one, one_buckets, two,        \
                                             two_buckets, context, partial);                                            \
  }

// Heads up to that size, in whole 16 bytes; or any up to 256.
ATTEND_GENERAL(f32, 128, 32, 1, 4)
ATTEND_GENERAL(f32, 256, 32, 2, 4)
ATTEND_GENERAL(f32, any, 32, 8, 1)
ATTEND_GENERAL(f16, 128, 16, 1, 8)
ATTEND_GENERAL(f16, 256, 32, 1, 8)
ATTEND_GENERAL(f16, any, 32, 8, 1)
ATTEND_GENERAL(bf16, 128, 16, 1, 8)
ATTEND_GENERAL(bf16, 256, 32, 1, 8)
ATTEND_GENERAL(bf16, any, 32, 8, 1)

#define MERGE_PARTS(T)                                                                                             \
  KERNEL merge_parts_##T(const float* partial, int d_head, int parts_of_all, T* context, Count n) {                \
    merge_parts(partial, d_head, parts_of_all, context, n);                                                        \
  }

MERGE_PARTS(f32)
MERGE_PARTS(f16)
MERGE_PARTS(bf16)
