// Matrix products where cuBLASLt is not there or does not take the operands: out = f(a·b + bias) + residual.
//
// Floor: 2·m·n·k operations at the tensor cores' rate (16 bits) or that of fused multiply-adds (f32). A block has a
// tile of 64×64 and goes through k in order, in steps of its own, so that neither m nor n has a say in the bits of an
// element. Tiles pass through shared memory: each element of a and b is read once a tile.
#include "epilogue.cuh"
#include "staging.cuh"

extern __shared__ __align__(16) unsigned char tiles[];

namespace {

constexpr int TILE = 64;

// A matrix: element (i, j) is data[i·row + j·column].
template <typename T> struct Matrix {
  const T* data;
  int64_t row, column;
};

// Matrices of a batch of two axes, which lie `outer` and `inner` apart.
template <typename T> struct Batch {
  const T* data;
  int64_t outer, inner, row, column;

  __device__ Matrix<T> matrix(Count batch, Count inside) const {
    return {data + batch / inside * outer + batch % inside * inner, row, column};
  }
};

// Where this block's tile lies.
struct Place {
  Count batch, row, column;

  __device__ Place(Count m, Count n) {
    const Count across = (n + TILE - 1) / TILE, down = (m + TILE - 1) / TILE;
    column = blockIdx.x % across * TILE, row = blockIdx.x / across % down * TILE, batch = blockIdx.x / across / down;
  }
};

// The tile's sums pass through shared memory, so that neighbouring threads store neighbouring elements, and the
// epilogue is there once and not once for each of a thread's elements.
template <typename T, int WIDE>
__device__ void store(const float (*sums)[WIDE], const Place& place, T* out, Count m, Count n, const Epilogue<T>& epilogue) {
  __syncthreads();
  out += (int64_t)place.batch * m * n;
#pragma unroll 1
  for (int i = threadIdx.x; i < TILE * TILE; i += blockDim.x) {
    const Count row = place.row + i / TILE, column = place.column + i % TILE;
    if (row < m && column < n) out[(int64_t)row * n + column] = epilogue(sums[i / TILE][i % TILE], row, column);
  }
}

// f32: 256 threads with 4×4 elements each, steps of 16.
constexpr int STEP = 16, WIDE = TILE + 4;

// A part of 64 × STEP elements, `along` the 64 and `across` the step. Neighbouring threads load neighbouring elements.
struct Part {
  const float* data;
  int64_t along, across;
  Count left, steps;

  __device__ int at_along(int i) const { return across == 1 ? (threadIdx.x + 256 * i) / STEP : (threadIdx.x + 256 * i) % TILE; }
  __device__ int at_across(int i) const { return across == 1 ? (threadIdx.x + 256 * i) % STEP : (threadIdx.x + 256 * i) / TILE; }

  __device__ void load(float (&to)[4], Count start) const {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const Count x = at_along(i), p = start + at_across(i);
      to[i] = x < left && p < steps ? data[x * along + p * across] : 0.f;
    }
  }

  __device__ void store(float (*to)[WIDE], const float (&from)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; i++) to[at_across(i)][at_along(i)] = from[i];
  }
};

__device__ void product_f32(Matrix<float> a, Matrix<float> b, const Place& place, float* out, Count m, Count k, Count n,
                            const Epilogue<float>& epilogue) {
  auto a_tile = reinterpret_cast<float(*)[WIDE]>(tiles), b_tile = a_tile + STEP;
  const Part a_part = {a.data + place.row * a.row, a.row, a.column, m - place.row, k};
  const Part b_part = {b.data + place.column * b.column, b.column, b.row, n - place.column, k};
  const int down = threadIdx.x / 16 * 4, right = threadIdx.x % 16 * 4;
  float sums[4][4] = {}, a_next[4], b_next[4];
  a_part.load(a_next, 0), b_part.load(b_next, 0);
  for (Count start = 0; start < k; start += STEP) {
    a_part.store(a_tile, a_next), b_part.store(b_tile, b_next);
    __syncthreads();
    if (start + STEP < k) a_part.load(a_next, start + STEP), b_part.load(b_next, start + STEP);
#pragma unroll
    for (int p = 0; p < STEP; p++) {
      const float4 x = *reinterpret_cast<const float4*>(&a_tile[p][down]);
      const float4 y = *reinterpret_cast<const float4*>(&b_tile[p][right]);
      const float xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = fmaf(xs[i], ys[j], sums[i][j]);
    }
    __syncthreads();
  }
  // The tiles have been read.
#pragma unroll
  for (int i = 0; i < 4; i++)
    *reinterpret_cast<float4*>(&a_tile[down + i][right]) = make_float4(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
  store(a_tile, place, out, m, n, epilogue);
}

// 16 bits: 128 threads, a warp has 32×32 elements; steps of 32 in three stages of cp.async.
constexpr int DEEP = 32, STAGES = 3, STAGE = TILE * (DEEP + 8);

__device__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, f16) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, bf16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A tile of 64 × DEEP in shared memory, as it lies in global memory: with DEEP (`DEEP_FAST`) or with 64 running fastest. Rows
// of 80 or 144 bytes, an odd number of 16: the eight rows of a matrix of ldmatrix lie in different banks.
template <typename T, bool DEEP_FAST> struct Tile {
  static constexpr int FAST = DEEP_FAST ? DEEP : TILE, SLOW = DEEP_FAST ? TILE : DEEP, WIDTH = FAST + 8;

  // `along` the 64, of which there are `left`; `across` DEEP, of which there are `steps`. `aligned`: 8 elements that
  // run fastest are 16 bytes at a multiple of 16.
  static __device__ void load(T* to, const T* from, int64_t along, int64_t across, Count left, Count steps, Count start,
                              bool aligned) {
    const int64_t fast = DEEP_FAST ? across : along, slow = DEEP_FAST ? along : across;
    const Count fast_start = DEEP_FAST ? start : 0, slow_start = DEEP_FAST ? 0 : start;
    const Count fast_end = DEEP_FAST ? steps : left, slow_end = DEEP_FAST ? left : steps;
#pragma unroll
    for (int i = threadIdx.x; i < SLOW * FAST / 8; i += 128) {
      const int row = i / (FAST / 8), column = i % (FAST / 8) * 8;
      const Count y = slow_start + row, x = fast_start + column;
      const Count there = y < slow_end && x < fast_end ? min(8, fast_end - x) : 0;
      T* target = to + row * WIDTH + column;
      if (aligned) {
        const T* source = there > 0 ? from + y * slow + x : from;
        COPY_16(target, source, there * 2);
      } else {
        T elements[8];
#pragma unroll
        for (int j = 0; j < 8; j++) elements[j] = j < there ? from[y * slow + (x + j) * fast] : convert<T>(0.f);
        *reinterpret_cast<uint4*>(target) = *reinterpret_cast<uint4*>(elements);
      }
    }
  }

  // The 16×16 elements from (row, deep) on, as four 8×8 matrices: rows 0-7 and 8-15 of the first 8 of DEEP, then of the
  // other 8 (`ROWS_FIRST`); or both halves of DEEP of rows 0-7, then of 8-15.
  template <bool ROWS_FIRST> static __device__ void matrices(uint32_t (&r)[4], const T* tile, int row, int deep) {
    const int lane = threadIdx.x % 32, first = lane / 8 % 2 * 8, second = lane / 16 * 8, inside = lane % 8;
    row += ROWS_FIRST ? first : second, deep += ROWS_FIRST ? second : first;
    if (DEEP_FAST) load_matrices(r, tile + (row + inside) * WIDTH + deep);
    else load_matrices_turned(r, tile + (deep + inside) * WIDTH + row);
  }
};

template <typename T, bool A_DEEP, bool B_DEEP>
__device__ void product_16(Matrix<T> a, Matrix<T> b, bool a_aligned, bool b_aligned, const Place& place, T* out, Count m,
                           Count k, Count n, const Epilogue<T>& epilogue) {
  T* stages = reinterpret_cast<T*>(tiles);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, down = warp / 2 * 32, right = warp % 2 * 32;
  a.data += place.row * a.row, b.data += place.column * b.column;
  const Count steps = (k + DEEP - 1) / DEEP;
  auto fetch = [&](Count step) {
    if (step < steps) {
      T* to = stages + step % STAGES * 2 * STAGE;
      Tile<T, A_DEEP>::load(to, a.data, a.row, a.column, m - place.row, k, step * DEEP, a_aligned);
      Tile<T, B_DEEP>::load(to + STAGE, b.data, b.column, b.row, n - place.column, k, step * DEEP, b_aligned);
    }
    commit();
  };
  float sums[2][4][4] = {};
  fetch(0), fetch(1);
  for (Count step = 0; step < steps; step++) {
    wait<1>();
    // What the others loaded is there, and the stage that is fetched next is not read any more.
    __syncthreads();
    fetch(step + 2);
    const T *a_tile = stages + step % STAGES * 2 * STAGE, *b_tile = a_tile + STAGE;
#pragma unroll
    for (int deep = 0; deep < DEEP; deep += 16) {
      uint32_t x[2][4], y[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        Tile<T, A_DEEP>::template matrices<true>(x[i], a_tile, down + 16 * i, deep);
        Tile<T, B_DEEP>::template matrices<false>(y[i], b_tile, right + 16 * i, deep);
      }
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) mma(sums[i][j], x[i], y[j / 2][j % 2 * 2], y[j / 2][j % 2 * 2 + 1], T());
    }
  }
  // All copies have been waited for: the last groups are empty.
  __syncthreads();
  // Rows 8 banks apart: four of them, of four lanes with two numbers each, have all banks.
  auto results = reinterpret_cast<float(*)[TILE + 8]>(tiles);
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<float2*>(&results[down + 16 * i + lane / 4 + 8 * half][right + 8 * j + lane % 4 * 2]) =
            make_float2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
  store(results, place, out, m, n, epilogue);
}

}  // namespace

// out [batches, m, n], `inside` the extent of the batches' inner axis. A block a tile, all batches in a row. Of the
// alignments, bit 0 is a's and bit 1 is b's.
#define ARGUMENTS(T) \
  const T *a, int64_t a_outer, int64_t a_inner, int64_t a_row, int64_t a_column, const T *b, int64_t b_outer, \
      int64_t b_inner, int64_t b_row, int64_t b_column, Count inside, int alignments, T *out, Count m, Count k, Count n, \
      const T *bias, int activation, const T *residual, int64_t distance
#define MATRICES(T) \
  Batch<T>{a, a_outer, a_inner, a_row, a_column}.matrix(place.batch, inside), \
      Batch<T>{b, b_outer, b_inner, b_row, b_column}.matrix(place.batch, inside)

KERNEL __launch_bounds__(256) matmul_f32(ARGUMENTS(f32)) {
  const Place place(m, n);
  product_f32(MATRICES(f32), place, out, m, k, n, {bias, activation, residual, distance});
}

#define MATMUL(T, LAYOUTS, A_DEEP, B_DEEP) \
  KERNEL __launch_bounds__(128) matmul_##T##_##LAYOUTS(ARGUMENTS(T)) { \
    const Place place(m, n); \
    product_16<T, A_DEEP, B_DEEP>(MATRICES(T), alignments & 1, alignments & 2, place, out, m, k, n, \
                                  {bias, activation, residual, distance}); \
  }

// n: row-major; t: column-major.
MATMUL(f16, nn, true, false)
MATMUL(f16, nt, true, true)
MATMUL(f16, tn, false, false)
MATMUL(f16, tt, false, true)
MATMUL(bf16, nn, true, false)
MATMUL(bf16, nt, true, true)
MATMUL(bf16, tn, false, false)
MATMUL(bf16, tt, false, true)

// What cuBLASLt leaves to do: out = f(out) + residual, of rows of n elements.
#define FINISH(T) \
  KERNEL finish_##T(T* out, int activation, const T* residual, int64_t distance, Count n, Count all) { \
    const Count i = index(); \
    if (i < all) out[i] = Epilogue<T>{nullptr, activation, residual, distance}(number(out[i]), i / n, i % n); \
  }

FINISH(f32)
FINISH(f16)
FINISH(bf16)
