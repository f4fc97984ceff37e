// The primitive ops over strided views, a thread for each element of the result. Floats are computed in f32, whatever
// their type.
#include "common.cuh"

namespace {

__device__ float unary(int op, float x) {
  switch (op) {
    case 0: return -x;
    case 1: return fabsf(x);
    case 2: return expf(x);
    case 3: return logf(x);
    case 4: return sqrtf(x);
    case 5: return 1.f / x;
    case 6: return sinf(x);
    case 7: return cosf(x);
    case 8: return tanhf(x);
    case 9: return erff(x);
    default: return rintf(x);
  }
}

__device__ int unary(int op, int x) { return op == 0 || x < 0 ? (int)(0u - (unsigned)x) : x; }

__device__ float binary(int op, float a, float b) {
  switch (op) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a / b;
    case 4: return a > b ? a : b;
    case 5: return a < b ? a : b;
    case 6: return a < b ? 1.f : 0.f;
    default: return a == b ? 1.f : 0.f;
  }
}

__device__ int binary(int op, int a, int b) {
  switch (op) {
    case 0: return (int)((unsigned)a + (unsigned)b);
    case 1: return (int)((unsigned)a - (unsigned)b);
    case 2: return (int)((unsigned)a * (unsigned)b);
    case 3: return b == 0 ? 0 : b == -1 ? (int)(0u - (unsigned)a) : a / b;
    case 4: return max(a, b);
    case 5: return min(a, b);
    case 6: return a < b;
    default: return a == b;
  }
}

}  // namespace

#define BY_BITS(BITS, T) \
  KERNEL fill_##BITS(T* out, T value, Count n) { \
    const Count i = index(); \
    if (i < n) out[i] = value; \
  } \
  KERNEL copy_##BITS(const T* x, View from, T* out, View to, Count n) { \
    const Count i = index(); \
    if (i < n) out[place(to, i)] = x[place(from, i)]; \
  } \
  /* out[i, :] = table[ids[i], :]; a row that is not there is 0. */ \
  KERNEL gather_##BITS(const T* table, View rows, const i32* ids, View at, T* out, Count width, Count n) { \
    const Count i = index(); \
    if (i >= n) return; \
    const int id = ids[place(at, i / width)]; \
    const bool there = id >= 0 && id < rows.shape[0]; \
    out[i] = there ? table[rows.offset + id * rows.strides[0] + place<1>(rows, i % width)] : T(0); \
  } \
  KERNEL write_rows_##BITS(const T* x, View from, const i32* ids, View at, T* out, View to, Count width, \
                           Count n) { \
    const Count i = index(); \
    if (i >= n) return; \
    const int id = ids[place(at, i / width)]; \
    if (id < 0 || id >= to.shape[0]) return; \
    out[to.offset + id * to.strides[0] + place<1>(to, i % width)] = x[place(from, i)]; \
  }

BY_BITS(16, uint16_t)
BY_BITS(32, uint32_t)

// A condition holds where its bits under the mask (all but the sign of a float) are not 0.
#define SELECT(C_BITS, C, BITS, T) \
  KERNEL select_##C_BITS##_##BITS(const C* c, View c_view, C mask, const T* a, View a_view, const T* b, \
                                  View b_view, T* out, Count n) { \
    const Count i = index(); \
    if (i < n) out[i] = (c[place(c_view, i)] & mask) != 0 ? a[place(a_view, i)] : b[place(b_view, i)]; \
  }

SELECT(16, uint16_t, 16, uint16_t)
SELECT(16, uint16_t, 32, uint32_t)
SELECT(32, uint32_t, 16, uint16_t)
SELECT(32, uint32_t, 32, uint32_t)

#define CONVERT(FROM, TO) \
  KERNEL convert_##FROM##_##TO(const FROM* x, View from, TO* out, View to, Count n) { \
    const Count i = index(); \
    if (i < n) out[place(to, i)] = convert<TO>(number(x[place(from, i)])); \
  }

CONVERT(f32, f16)
CONVERT(f32, bf16)
CONVERT(f32, i32)
CONVERT(f16, f32)
CONVERT(f16, bf16)
CONVERT(f16, i32)
CONVERT(bf16, f32)
CONVERT(bf16, f16)
CONVERT(bf16, i32)
CONVERT(i32, f32)
CONVERT(i32, f16)
CONVERT(i32, bf16)

#define BY_TYPE(T) \
  KERNEL unary_##T(int op, const T* x, View from, T* out, Count n) { \
    const Count i = index(); \
    if (i < n) out[i] = convert<T>(unary(op, number(x[place(from, i)]))); \
  } \
  KERNEL binary_##T(int op, const T* a, View a_view, const T* b, View b_view, T* out, Count n) { \
    const Count i = index(); \
    if (i < n) out[i] = convert<T>(binary(op, number(a[place(a_view, i)]), number(b[place(b_view, i)]))); \
  }

BY_TYPE(f32)
BY_TYPE(f16)
BY_TYPE(bf16)
BY_TYPE(i32)

#define FLOATS(T) \
  KERNEL random_##T(const i32* key, View at, unsigned stream, T* out, Count n) { \
    const Count i = index(); \
    if (i < n) \
      out[i] = convert<T>(uniform(key[place(at, 0)], key[place(at, 1)], key[place(at, 2)], stream, i)); \
  }

FLOATS(f32)
FLOATS(f16)
FLOATS(bf16)

KERNEL iota(i32* out, Count n) {
  const Count i = index();
  if (i < n) out[i] = (int)i;
}
