// Rows of f32 as 8-bit integers, each row with its own scale: `Precision::Int8` of tfm-core. A block a row.
//
// Floor of memory: one read of the row and a quarter of that written; the second read is from the cache.
#include "packs.cuh"
#include "quantized.cuh"

namespace {

// The greatest magnitude of some numbers, and the greatest sum of an even one and the next of one sign: by their bits, of which
// ∞ has more than every number, and NaN more than ∞.
struct Largest {
  uint32_t magnitude, sum;
};

__device__ Largest joined(Largest a, Largest b) { return {max(a.magnitude, b.magnitude), max(a.sum, b.sum)}; }
__device__ Largest from_lane(Largest x, int lane) {
  return {__shfl_xor_sync(0xffffffffu, x.magnitude, lane), __shfl_xor_sync(0xffffffffu, x.sum, lane)};
}

__device__ uint32_t magnitude(float x) { return __float_as_uint(fabsf(x)); }

// The elements of a row, `step` apart.
struct Source {
  const float* first;
  int64_t step;
  Count columns;

  // Four from `start` on; 0 behind the end.
  __device__ void part(float (&out)[4], Count start) const {
    const int left = start < columns ? min(columns - start, 4) : 0;
    if (step == 1) {
      load(out, first + start, left, aligned(first), 0.f);
    } else {
#pragma unroll
      for (int i = 0; i < 4; i++) out[i] = i < left ? first[(start + i) * step] : 0.f;
    }
  }
};

// A weight's scale is also that of the sums of its neighbours, which no instruction for two products in 16 bits may saturate.
template <bool WEIGHT> __device__ void quantize(const Source& source, const Quantized& to, Shared& shared) {
  Largest largest = {0, 0};
  for (Count start = 4 * threadIdx.x; start < source.columns; start += 4 * blockDim.x) {
    float x[4];
    source.part(x, start);
#pragma unroll
    for (int i = 0; i < 4; i++) largest.magnitude = max(largest.magnitude, magnitude(x[i]));
    if (WEIGHT) {
#pragma unroll
      for (int i = 0; i < 4; i += 2) {
        const float positive = fmaxf(x[i], 0.f) + fmaxf(x[i + 1], 0.f);
        const float negative = fmaxf(-x[i], 0.f) + fmaxf(-x[i + 1], 0.f);
        largest.sum = max(largest.sum, magnitude(fmaxf(positive, negative)));
      }
    }
  }
  largest = join(largest, Largest{0, 0}, shared);
  const float most = __uint_as_float(largest.magnitude);
  float scale = most / 127.f, factor = 127.f / most;
  if (WEIGHT) scale = fmaxf(scale, __uint_as_float(largest.sum) / 128.f), factor = 1.f / scale;
  // What is not finite shows in all that the row is multiplied with.
  if (!isfinite(most)) scale = NAN;
  if (!isfinite(most) || most == 0.f) factor = 0.f;
  const Count row = blockIdx.x;
  if (threadIdx.x == 0) to.scales[row] = scale;
  int8_t* integers = to.integers + row * to.width;
  for (Count start = 4 * threadIdx.x; start < to.width; start += 4 * blockDim.x) {
    float x[4];
    source.part(x, start);
    uint32_t four = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      // The factor of numbers below 2^-120 is ∞.
      const int q = max(-127, min(127, __float2int_rn(x[i] * factor)));
      four |= (q & 255u) << 8 * i;
    }
    *reinterpret_cast<uint32_t*>(integers + start) = four;
  }
}

}  // namespace

// x [rows, columns], rows `row` apart.
KERNEL __launch_bounds__(512)
    quantize_rows(const float* x, int64_t row, unsigned char* out, Count rows, Count columns) {
  __shared__ Shared shared;
  quantize<false>({x + blockIdx.x * row, 1, columns}, Quantized(out, rows, columns), shared);
}

// w [rows, columns] with any strides: a weight that is laid out once.
KERNEL __launch_bounds__(512) quantize_weight(const float* w, int64_t row, int64_t column, unsigned char* out, Count rows,
                                              Count columns) {
  __shared__ Shared shared;
  quantize<true>({w + blockIdx.x * row, column, columns}, Quantized(out, rows, columns), shared);
}
