// Tiles in shared memory for products by mma.sync.m16n8k16: a block of 4 warps has 64 rows, each warp 16 of them, and
// goes through tiles of other rows, which cp.async brings.
#pragma once
#include "attention.cuh"
#include "staging.cuh"

// Not in the namespace without a name, whose symbols hold a hash of the source's folder.
extern __shared__ __align__(16) unsigned char memory[];

namespace {

constexpr int TILE = 64, WARPS = 4, THREADS = 32 * WARPS;
// A row in shared memory is 16 bytes longer than a multiple of 64: eight rows of a matrix lie in different banks.
constexpr int GAP = 8;
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

__device__ uint32_t pack(float low, float high, f16) {
  __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}
__device__ uint32_t pack(float low, float high, bf16) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t*>(&pair);
}

#define MULTIPLY(T)                                                                                                   \
  __device__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, T) {                      \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #T "." #T                                                   \
                 ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                         \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                     \
  }
MULTIPLY(f16)
MULTIPLY(bf16)

// 2^x: of -∞ 0.
__device__ float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// `count` rows of `size` elements, padded with zeros to ROWS rows of D. There is at least one.
template <int D, int ROWS, typename T>
__device__ void copy_rows(T* to, const T* from, int64_t stride, int count, int size) {
  constexpr int CHUNKS = D / 8;
#pragma unroll 1
  for (uint32_t i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
    const int row = i / CHUNKS, column = i % CHUNKS * 8;
    const bool inside = row < count && column < size;
    const T* source = inside ? from + row * stride + column : from;
    COPY_16(to + row * (D + GAP) + column, source, inside ? 16 : 0);
  }
}

template <int N> __device__ void clear(float (&x)[N][4]) {
#pragma unroll
  for (int i = 0; i < N; i++) x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0.f;
}

// The matrix of 16 rows and columns from `k` on of the warp's rows of a tile.
template <int D, typename T> __device__ void load_own(uint32_t (&a)[4], const T* tile, int k) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  load_matrices(a, tile + (warp * 16 + lane % 16) * (D + GAP) + k + lane / 16 * 8);
}

// d = A·Bᵀ for the warp's 16 rows, of which `own(k)` gives the matrices, and a tile B [8 N, D]. Element (r, c) of d[j] is
// of row lane / 4 + 8 r and column 8 j + lane % 4 * 2 + c, as everywhere.
template <int D, int N, typename T, typename Own>
__device__ void scores(float (&d)[N][4], Own own, const T* b) {
  const int lane = threadIdx.x % 32;
  clear(d);
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    uint32_t a[4];
    own(a, k);
#pragma unroll
    for (int j = 0; j < N; j += 2) {
      uint32_t part[4];
      load_matrices(part, b + (j * 8 + lane / 16 * 8 + lane % 8) * (D + GAP) + k * 16 + lane / 8 % 2 * 8);
      multiply(d[j], a, part[0], part[1], T());
      multiply(d[j + 1], a, part[2], part[3], T());
    }
  }
}

// d += P·B for weights P of the warp's 16 rows and 8 N columns, and the 8 M columns from `b` on of a tile of 8 N rows.
template <int D, int N, int M, typename T>
__device__ void accumulate(float (&d)[M][4], const float (&p)[N][4], const T* b) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < N / 2; k++) {
    const uint32_t a[4] = {pack(p[2 * k][0], p[2 * k][1], T()), pack(p[2 * k][2], p[2 * k][3], T()),
                           pack(p[2 * k + 1][0], p[2 * k + 1][1], T()), pack(p[2 * k + 1][2], p[2 * k + 1][3], T())};
#pragma unroll
    for (int i = 0; i < M; i += 2) {
      uint32_t part[4];
      load_matrices_turned(part, b + (k * 16 + lane % 16) * (D + GAP) + i * 8 + lane / 16 * 8);
      multiply(d[i], a, part[0], part[1], T());
      multiply(d[i + 1], a, part[2], part[3], T());
    }
  }
}

// Puts the warp's 16 rows of 8 M columns, times `factor` of each of a thread's two, in a tile.
template <int D, int M, typename T>
__device__ void put_rows(T* tile, const float (&x)[M][4], float factor0, float factor1) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  T* at = tile + (warp * 16 + lane / 4) * (D + GAP) + lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < M; i++) {
    *reinterpret_cast<uint32_t*>(at + i * 8) = pack(x[i][0] * factor0, x[i][1] * factor0, T());
    *reinterpret_cast<uint32_t*>(at + 8 * (D + GAP) + i * 8) = pack(x[i][2] * factor1, x[i][3] * factor1, T());
  }
}

// Stores `count` rows of a tile, `width` elements each, 16 bytes at a time.
template <int D, typename T>
__device__ void store_rows(T* to, int64_t stride, const T* tile, int count, int width) {
  const uint32_t chunks = (uint32_t)width / 8;
  for (uint32_t i = threadIdx.x; i < count * chunks; i += THREADS) {
    const int row = i / chunks, column = i % chunks * 8;
    *reinterpret_cast<uint4*>(to + row * stride + column) =
        *reinterpret_cast<const uint4*>(tile + row * (D + GAP) + column);
  }
}

// Which weights of QUERIES queries and KEYS keys are kept: a byte each, rows 4 bytes longer than KEYS. Four neighbours
// have one draw of Philox; `position` is that of the first weight, where no multiple of 4 need be.
template <int QUERIES, int KEYS>
__device__ void draw(unsigned char* kept, const Dropout& dropout, uint64_t position, int rows) {
  constexpr int BLOCKS = KEYS / 4 + 1;
  for (uint32_t i = threadIdx.x; i < QUERIES * BLOCKS; i += THREADS) {
    const int row = i / BLOCKS, block = i % BLOCKS;
    const uint64_t first = position + (uint64_t)row * rows;
    uint32_t words[4];
    philox(dropout, first / 4 + block, words);
    const int at = 4 * block - (int)(first % 4);
#pragma unroll
    for (int c = 0; c < 4; c++)
      if (at + c >= 0 && at + c < KEYS) kept[row * (KEYS + 4) + at + c] = (words[c] >> 8) >= dropout.threshold;
  }
}

}  // namespace
