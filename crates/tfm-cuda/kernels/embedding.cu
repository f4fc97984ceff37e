// Token embedding with its scale and positional encoding: a thread a pack of a row.
//
// Floor of memory: one read and one write of a row for each token.
#include "packs.cuh"
#include "quantized.cuh"

namespace {

// A table of T, whose rows are read in packs of N.
template <typename T> struct Table {
  const T* first;
  int64_t stride;
  template <int N> __device__ void read(float (&out)[N], Count row, Count column, int left) const {
    static_assert(N == PACK<T>, "");
    const T* at = first + row * stride + column;
    load(out, at, left, aligned(at), 0.f);
  }
};

struct QuantizedTable {
  Quantized rows;
  // Rows begin at multiples of 16 bytes and are filled up to them.
  __device__ void read(float (&out)[4], Count row, Count column, int) const {
    const char4 four = *reinterpret_cast<const char4*>(rows.integers + row * rows.width + column);
    const float scale = rows.scales[row];
    out[0] = four.x * scale, out[1] = four.y * scale, out[2] = four.z * scale, out[3] = four.w * scale;
  }
};

// A row of the table, which has `rows`; an id that is not there is the row 0.
template <typename T> struct Row {
  const i32* ids;
  T table;
  Count rows;
  template <int N> __device__ void read(float (&out)[N], Count token, Count column, int left) const {
    table.read(out, (Count)ids[token] < rows ? ids[token] : 0, column, left);
  }
};

// out[t, :] = scale·table[ids[t], :] + encoding[positions[t], :], each of width `width`, in `n` packs.
template <typename T, typename Embedded, typename Encoding>
__device__ void embedding(const Row<Embedded>& embedded, float scale, const Row<Encoding>& encoding, T* out, Count width,
                          Count n) {
  const Count i = index();
  if (i >= n) return;
  const Count packs = (width + PACK<T> - 1) / PACK<T>, token = i / packs, column = i % packs * PACK<T>;
  const int left = width - column;
  float x[PACK<T>], place[PACK<T>] = {};
  embedded.read(x, token, column, left);
  if (encoding.ids) encoding.read(place, token, column, left);
#pragma unroll
  for (int e = 0; e < PACK<T>; e++) x[e] = encoding.ids ? x[e] * scale + place[e] : x[e] * scale;
  T* to = out + (int64_t)token * width + column;
  store(to, x, left, aligned(to));
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
