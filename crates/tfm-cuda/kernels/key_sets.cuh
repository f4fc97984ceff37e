// Sets of keys with all that the op `Attention` may ask of them: by ranges or by a table, causal, with a window, with fewer heads
// than the queries have, with biases. For the kernels that take any of it, and two sets at once.
#pragma once
#include "attention.cuh"

namespace {

template <typename T> struct KeySet {
  Rows<T> key, value;
  const int* first;   // by ranges the offsets of the queries, by a table [queries, n] the table
  const int* second;  // the ranges [n, 2], or the lengths
  int n;              // sequences, or columns
  int rows;           // of keys
  int table, causal;
  int window;  // a key is less far away; INT32_MAX: any
  int group;   // so many heads read a head of keys
  const float* biases;  // [buckets, heads]; none: nothing is added
};

// The keys from .. to that a query sees, and where it stands among them.
struct Span {
  int from, to, position;
  __device__ bool has(int key) const { return key >= from && key < to; }
};

// Of the first `count` keys. With a window the query may see none of them.
template <typename T> __device__ Span span_of(const KeySet<T>& set, int count, int position) {
  const int64_t to = (int64_t)position + (set.causal ? 1 : set.window), from = (int64_t)position - set.window + 1;
  return {(int)max(from, (int64_t)0), (int)max(min(to, (int64_t)count), (int64_t)0), position};
}

// The sequence that has the query: how many begin at or before it, but for the first. Each warp looks for itself, its lanes at
// 32 sequences at once.
__device__ int sequence_with(const int* offsets, int sequences, int query) {
  int low = 0, high = sequences - 1;
  while (low < high) {
    const int step = (high - low + 31) / 32, at = low + ((int)threadIdx.x % 32 + 1) * step;
    const int begun = __popc(__ballot_sync(0xffffffffu, at <= high && offsets[at] <= query));
    low += begun * step;
    high = min(high, low + step - 1);
  }
  return low;
}

// Calls `use(sequence, begin, end)` for each sequence of a set by ranges that has some of the queries first .. last: those from
// begin to end. The sequences of a second set need not be those of the first.
template <typename T, typename Use>
__device__ void each_sequence(const KeySet<T>& set, int queries, int first, int last, Use use) {
  const Batch batch{set.first, set.second, set.n, queries, set.rows, set.causal};
  for (int s = sequence_with(set.first, set.n, first); s < set.n && set.first[s] < last; s++) {
    const Sequence sequence = sequence_of(batch, s);
    const int begin = max(first, sequence.first), end = min(last, sequence.first + sequence.length);
    if (begin < end) use(sequence, begin, end);
  }
}

// What query i of all sees of a sequence: nothing unless it is one of begin .. end.
template <typename T>
__device__ Span span_in(const KeySet<T>& set, const Sequence& sequence, int begin, int end, int i) {
  if (i < begin || i >= end) return {0, 0, 0};
  return span_of(set, sequence.count, sequence.position(i - sequence.first));
}

// Biases by distance in shared memory, or none.
struct Distances {
  const float* centre;
  int reach;
  __device__ float of(int distance) const { return centre[min(max(distance, -reach), reach)]; }
};

// Lays out the biases of a set; `to` becomes the memory behind them. They are read after the next barrier.
__device__ Distances lay_out(float*& to, const float* biases, const Buckets& buckets, int head, int heads) {
  if (!biases) return {nullptr, 0};
  Biased bias{biases, buckets, nullptr, nullptr};
  bias.prepare(to, head, heads);
  to += bias.floats();
  return {bias.centre, buckets.reach};
}

}  // namespace

// The arguments that make a set, and the set.
#define KEY_SET_ARGUMENTS(T, NAME)                                                                                   \
  const T *NAME##_key, int64_t NAME##_key_row, int64_t NAME##_key_head, const T *NAME##_value, int64_t NAME##_value_row, \
      int64_t NAME##_value_head, const int *NAME##_first, const int *NAME##_second, Count NAME##_n, Count NAME##_rows, \
      int NAME##_table, int NAME##_causal, int NAME##_window, Count NAME##_group, const float *NAME##_biases,        \
      const Buckets NAME##_buckets
#define KEY_SET(T, NAME)                                                                                              \
  const KeySet<T> NAME{{NAME##_key, NAME##_key_row, NAME##_key_head}, {NAME##_value, NAME##_value_row, NAME##_value_head}, \
                       NAME##_first, NAME##_second, (int)NAME##_n, (int)NAME##_rows, NAME##_table, NAME##_causal,     \
                       NAME##_window, (int)NAME##_group, NAME##_biases};
// The arguments of kernels by ranges: the queries, what is common to all keys, and two sets, of which one may be missing.
#define GENERAL_ARGUMENTS(T)                                                                                          \
  const T *query, int64_t query_row, int64_t query_head, Count queries, Count size, float scale, float cap,           \
      const int *random, uint32_t stream, uint32_t threshold, float factor, int sets, KEY_SET_ARGUMENTS(T, one),      \
      KEY_SET_ARGUMENTS(T, two)
#define GENERAL_OPERANDS(T)                                   \
  const Rows<T> q{query, query_row, query_head};              \
  const Dropout dropout{random, stream, threshold, factor};   \
  KEY_SET(T, one)                                             \
  KEY_SET(T, two)
