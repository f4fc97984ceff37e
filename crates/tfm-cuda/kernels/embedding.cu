// Token embedding with its scale and positional encoding: a thread an element.
#include "quantized.cuh"

namespace {

template <typename T> struct Table {
  const T* first;
  int64_t stride;
  __device__ float operator()(Count row, Count column) const { return number(first[row * stride + column]); }
};

struct QuantizedTable {
  Quantized rows;
  __device__ float operator()(Count row, Count column) const {
    return rows.integers[row * rows.width + column] * rows.scales[row];
  }
};

// A row of the table, which has `rows`; an id that is not there is the row 0.
template <typename T> struct Row {
  const i32* ids;
  T table;
  Count rows;
  __device__ float operator()(Count token, Count column) const {
    return table((Count)ids[token] < rows ? ids[token] : 0, column);
  }
};

// out[t, :] = scale·table[ids[t], :] + encoding[positions[t], :], each of width `width`.
template <typename T, typename Embedded, typename Encoding>
__device__ void embedding(const Row<Embedded>& embedded, float scale, const Row<Encoding>& encoding, T* out, Count width,
                          Count n) {
  const Count i = index();
  if (i >= n) return;
  float x = embedded(i / width, i % width) * scale;
  if (encoding.ids) x += encoding(i / width, i % width);
  out[i] = convert<T>(x);
}

}  // namespace

#define EMBEDDING(T) \
  KERNEL embedding_##T(const i32* ids, const T* table, int64_t table_stride, Count rows, float scale, \
                       const i32* positions, const T* encoding, int64_t encoding_stride, Count encodings, T* out, \
                       Count width, Count n) { \
    embedding(Row<Table<T>>{ids, {table, table_stride}, rows}, scale, \
              Row<Table<T>>{positions, {encoding, encoding_stride}, encodings}, out, width, n); \
  }

EMBEDDING(f32)
EMBEDDING(f16)
EMBEDDING(bf16)

KERNEL embedding_int8(const i32* ids, unsigned char* table, Count rows, float scale, const i32* positions,
                      const float* encoding, int64_t encoding_stride, Count encodings, float* out, Count width, Count n) {
  embedding(Row<QuantizedTable>{ids, {Quantized(table, rows, width)}, rows}, scale,
            Row<Table<float>>{positions, {encoding, encoding_stride}, encodings}, out, width, n);
}
