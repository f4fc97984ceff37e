// The linear layer on rows of 8-bit integers: out = f(x·Wᵀ + bias) + residual. Sums of integers are exact, so how they are split
// has no say in the bits of an element: a kernel for few rows, whose time is that of reading the weight, and one of tiles.
//
// Floor: n·k bytes of the weight, read once for few rows; else 2·m·n·k operations at the tensor cores' rate for integers.
#include "epilogue.cuh"
#include "quantized.cuh"
#include "staging.cuh"

extern __shared__ __align__(16) unsigned char tiles[];

namespace {

__device__ void multiply(int (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The product x [m, k]·Wᵀ, W [n, k], into out [m, n].
struct Product {
  Quantized x, weight;
  float* out;
  Count m, n;
  Epilogue<float> epilogue;

  // Not contracted with what follows: the same bits in every kernel.
  __device__ void store(int sum, Count row, Count column) const {
    const float scale = __fmul_rn(x.scales[row], weight.scales[column]);
    out[(int64_t)row * n + column] = epilogue(__fmul_rn((float)sum, scale), row, column);
  }
};

// Few rows: a block has 16 rows and 16 columns, and its warps take turns at the inputs, 64 at a time. A lane's registers of an
// operand are 16 neighbouring bytes: the inputs that the instruction takes for the k-th are others than those in memory, the same
// in x and W. Blocks of the same columns are neighbours, so that the rows of W come from the cache for all but the first of them.
constexpr int FEW = 16, FEW_THREADS = 256, STEP = 64;
// Rows 24 banks apart: four of them, of four lanes with two sums each, have all banks.
typedef int Parts[FEW_THREADS / 32][FEW][FEW + 8];

// 16 bytes of a row; behind the last row those of the last, whose sums nobody stores: no load waits on a branch.
__device__ uint4 sixteen(const Quantized& from, Count row, Count rows, Count at) {
  return *reinterpret_cast<const uint4*>(from.integers + min(row, rows - 1) * from.width + at);
}

__device__ void few_rows(const Product& p, Parts& parts) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Count down = (p.m + FEW - 1) / FEW;
  const Count first_row = blockIdx.x % down * FEW, first_column = blockIdx.x / down * FEW;
  const Count row = first_row + lane / 4, column = first_column + lane / 4;
  int sums[2][4] = {};
#pragma unroll 1
  for (Count start = warp * STEP; start < p.x.width; start += FEW_THREADS / 32 * STEP) {
    const Count at = start + lane % 4 * 16, there = min(at, (Count)p.x.width - 16);
    uint4 upper = sixteen(p.x, row, p.m, there), lower = sixteen(p.x, row + 8, p.m, there);
    const uint4 w[2] = {sixteen(p.weight, column, p.n, there), sixteen(p.weight, column + 8, p.n, there)};
    if (at != there) upper = lower = make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int j = 0; j < 2; j++) {
      multiply(sums[j], {upper.x, lower.x, upper.y, lower.y}, w[j].x, w[j].y);
      multiply(sums[j], {upper.z, lower.z, upper.w, lower.w}, w[j].z, w[j].w);
    }
  }
#pragma unroll
  for (int j = 0; j < 2; j++)
#pragma unroll
    for (int half = 0; half < 2; half++)
      *reinterpret_cast<int2*>(&parts[warp][lane / 4 + 8 * half][8 * j + lane % 4 * 2]) =
          make_int2(sums[j][2 * half], sums[j][2 * half + 1]);
  __syncthreads();
  static_assert(FEW * FEW == FEW_THREADS, "a thread an element");
  // A warp has rows that are two apart, 16 banks.
  const Count to_row = warp / 2 * 4 + warp % 2 + lane / FEW * 2, to_column = lane % FEW;
  int sum = 0;
#pragma unroll
  for (int i = 0; i < FEW_THREADS / 32; i++) sum += parts[i][to_row][to_column];
  if (first_row + to_row < p.m && first_column + to_column < p.n)
    p.store(sum, first_row + to_row, first_column + to_column);
}

// Many rows: a block has 128 rows and 64 columns, a warp 64×32 of them; steps of 64 inputs in three stages of cp.async.
constexpr int ROWS = 128, COLUMNS = 64, DEEP = 64, STAGES = 3, THREADS = 128;
// Rows of 80 bytes, an odd number of 16: the eight rows of a matrix of ldmatrix lie in different banks.
constexpr int WIDTH = DEEP + 16, STAGE = (ROWS + COLUMNS) * WIDTH;

// A step's part of `COUNT` rows from `first` on, as far as there are rows and inputs; zeros behind them.
template <int COUNT> __device__ void fetch(unsigned char* to, const Quantized& from, Count first, Count rows, Count step) {
  constexpr int ACROSS = DEEP / 16, DOWN = THREADS / ACROSS;
  const Count down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS * 16, at = step * DEEP + across;
#pragma unroll
  for (Count i = down; i < down + COUNT; i += DOWN) {
    const bool inside = first + i < rows && at < from.width;
    COPY_16(to + i * WIDTH + across, inside ? from.integers + (first + i) * from.width + at : from.integers,
            inside ? 16 : 0);
  }
}

__device__ void many_rows(const Product& p) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, down = warp / 2 * 64, right = warp % 2 * 32;
  const Count across = (p.n + COLUMNS - 1) / COLUMNS, steps = (p.x.width + DEEP - 1) / DEEP;
  const Count first_row = blockIdx.x / across * ROWS, first_column = blockIdx.x % across * COLUMNS;
  auto begin = [&](Count step) {
    if (step < steps) {
      unsigned char* to = tiles + step % STAGES * STAGE;
      fetch<ROWS>(to, p.x, first_row, p.m, step);
      fetch<COLUMNS>(to + ROWS * WIDTH, p.weight, first_column, p.n, step);
    }
    commit();
  };
  int sums[4][4][4] = {};
  begin(0), begin(1);
  for (Count step = 0; step < steps; step++) {
    wait<1>();
    // What the others loaded is there, and the stage that is fetched next is not read any more.
    __syncthreads();
    begin(step + 2);
    const unsigned char *x = tiles + step % STAGES * STAGE, *w = x + ROWS * WIDTH;
#pragma unroll
    for (int deep = 0; deep < DEEP; deep += 32) {
      uint32_t of_x[4][4], of_w[2][4];
      // Rows 0-7 and 8-15 of the first 16 inputs, then of the others; of W both halves of rows 0-7, then of 8-15.
#pragma unroll
      for (int i = 0; i < 4; i++)
        load_matrices(of_x[i], x + (down + 16 * i + lane % 16) * WIDTH + deep + lane / 16 * 16);
#pragma unroll
      for (int j = 0; j < 2; j++)
        load_matrices(of_w[j], w + (right + 16 * j + lane / 16 * 8 + lane % 8) * WIDTH + deep + lane / 8 % 2 * 16);
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) multiply(sums[i][j], of_x[i], of_w[j / 2][j % 2 * 2], of_w[j / 2][j % 2 * 2 + 1]);
    }
  }
  // All copies have been waited for: the last groups are empty.
  __syncthreads();
  // The sums pass through shared memory, so that what follows is there once and not for each of a thread's. Rows 8 banks
  // apart: four of them, of four lanes with two sums each, have all banks.
  auto results = reinterpret_cast<int(*)[COLUMNS + 8]>(tiles);
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        *reinterpret_cast<int2*>(&results[down + 16 * i + lane / 4 + 8 * half][right + 8 * j + lane % 4 * 2]) =
            make_int2(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
  __syncthreads();
#pragma unroll 1
  for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
    const Count row = first_row + i / COLUMNS, column = first_column + i % COLUMNS;
    if (row < p.m && column < p.n) p.store(results[i / COLUMNS][i % COLUMNS], row, column);
  }
}

}  // namespace

#define ARGUMENTS \
  unsigned char *x, unsigned char *weight, float *out, Count m, Count k, Count n, const float *bias, int activation, \
      const float *residual, int64_t distance
#define PRODUCT \
  Product { Quantized(x, m, k), Quantized(weight, n, k), out, m, n, {bias, activation, residual, distance} }

KERNEL __launch_bounds__(FEW_THREADS) linear_int8_few(ARGUMENTS) {
  __shared__ Parts parts;
  few_rows(PRODUCT, parts);
}

KERNEL __launch_bounds__(THREADS) linear_int8_many(ARGUMENTS) { many_rows(PRODUCT); }
