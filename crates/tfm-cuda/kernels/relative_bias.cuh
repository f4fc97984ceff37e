// Learned biases of attention's scores by the distance of key and query.
#pragma once
#include "common.cuh"

constexpr int BEGINNINGS = 31;

// The buckets of distances, from `RelativeBias` of tfm-core; `Buckets` of the host's code.
struct Buckets {
  int exact;  // up to so many steps each has a bucket
  int after;  // what the bucket of keys after the query has more; 0: they are as near as the query's own
  int reach;  // from so many steps on there is one bucket
  int beginnings[BEGINNINGS];  // the steps at which each further bucket begins; none: more than there are steps
};

namespace {

__device__ int bucket_of(const Buckets& buckets, int distance) {
  const int steps = buckets.after || distance < 0 ? abs(distance) : 0;
  int bucket = min(steps, buckets.exact);
  // All of them, so that no argument is indexed by a variable.
#pragma unroll
  for (int i = 0; i < BEGINNINGS; i++) bucket += steps >= buckets.beginnings[i];
  return distance > 0 ? bucket + buckets.after : bucket;
}

// What is added to scores: nothing,
struct Unbiased {
  static constexpr bool SOME = false;
  __device__ int floats() const { return 0; }
  __device__ void prepare(float*, int, int) {}
  __device__ float of(int) const { return 0.f; }
};

// or the biases [buckets, heads], which a block lays out by distance for its head, in `floats()` floats of shared memory.
struct Biased {
  static constexpr bool SOME = true;
  const float* biases;
  const Buckets& buckets;
  float* gradient;  // [blocks, heads, floats()]: the sums of the scores' gradients, where they are wanted
  const float* centre;

  __device__ int floats() const { return 2 * buckets.reach + 1; }
  // Read after the next barrier.
  __device__ void prepare(float* to, int head, int heads) {
    for (int i = threadIdx.x; i < floats(); i += blockDim.x)
      to[i] = biases[bucket_of(buckets, i - buckets.reach) * heads + head];
    centre = to + buckets.reach;
  }
  __device__ float* own_gradient() const {
    return gradient + ((int64_t)blockIdx.x * gridDim.y + blockIdx.y) * floats();
  }
  __device__ float of(int distance) const { return centre[min(max(distance, -buckets.reach), buckets.reach)]; }
};

// The gradients of a block's scores summed by distance, a tile of ROWS queries and COLUMNS keys at a time: a thread has a
// diagonal, and sums by itself those beyond the reach. No two threads have a sum at once, and all have one order.
template <typename Bias, int ROWS, int COLUMNS> struct DistanceSums {
  // Odd, so that the elements of neighbouring diagonals lie in different banks.
  static constexpr int STRIDE = COLUMNS + 9, DIAGONALS = ROWS + COLUMNS - 1;
  int reach;
  float *sums, *tile;
  float before, after;

  __device__ static int tile_floats() { return ROWS * STRIDE; }
  // The sums lie in `bias.floats()` floats, the tile in as many as that says. There is a barrier before they are used.
  __device__ DistanceSums(float* sums, float* tile, const Bias& bias)
      : reach(bias.buckets.reach), sums(sums), tile(tile), before(0.f), after(0.f) {
    for (int i = threadIdx.x; i <= 2 * reach; i += blockDim.x) sums[i] = 0.f;
  }
  __device__ void put(int row, int column, float x) { tile[row * STRIDE + column] = x; }
  // Adds the tile, whose first element has that distance. There are barriers before and after.
  __device__ void add(int first) {
    const int diagonal = threadIdx.x;
    if (diagonal >= DIAGONALS) return;
    float sum = 0.f;
#pragma unroll 8
    for (int column = 0; column < COLUMNS; column++) {
      const int row = column + ROWS - 1 - diagonal;
      if (row >= 0 && row < ROWS) sum += tile[row * STRIDE + column];
    }
    const int distance = first + diagonal - (ROWS - 1);
    if (distance <= -reach) before += sum;
    else if (distance >= reach) after += sum;
    else sums[distance + reach] += sum;
  }
  // After a barrier: the sums beyond the reach, of each warp. The block is of whole warps.
  __device__ void gather() {
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32;
    before = warp_sum(before), after = warp_sum(after);
    if (threadIdx.x % 32 == 0) tile[warp] = before, tile[warps + warp] = after;
  }
  // After another.
  __device__ void store(const Bias& bias) const {
    const int warps = blockDim.x / 32;
    float* to = bias.own_gradient();
    for (int i = threadIdx.x; i <= 2 * reach; i += blockDim.x) {
      float sum = sums[i];
      if (i == 0 || i == 2 * reach)
        for (int warp = 0; warp < warps; warp++) sum += tile[(i == 0 ? 0 : warps) + warp];
      to[i] = sum;
    }
  }
};

template <int ROWS, int COLUMNS> struct DistanceSums<Unbiased, ROWS, COLUMNS> {
  __device__ static int tile_floats() { return 0; }
  __device__ DistanceSums(float*, float*, const Unbiased&) {}
  __device__ void put(int, int, float) {}
  __device__ void add(int) {}
  __device__ void gather() {}
  __device__ void store(const Unbiased&) const {}
};

// What a block without queries stores.
__device__ void store_no_sums(const Unbiased&) {}
__device__ void store_no_sums(const Biased& bias) {
  float* to = bias.own_gradient();
  for (int i = threadIdx.x; i < bias.floats(); i += blockDim.x) to[i] = 0.f;
}

}  // namespace

// The last arguments of kernels without biases and with them, and of those among them that sum the gradients of biases; and what
// is made of them.
#define UNBIASED_ARGUMENTS
#define UNBIASED_OPERAND Unbiased bias;
#define UNBIASED_SUMS
#define UNBIASED_SUMS_OPERAND UNBIASED_OPERAND
#define BIASED_ARGUMENTS , const float *biases, const Buckets buckets
#define BIASED_OPERAND Biased bias{biases, buckets, nullptr, nullptr};
#define BIASED_SUMS BIASED_ARGUMENTS, float *bias_sums
#define BIASED_SUMS_OPERAND Biased bias{biases, buckets, bias_sums, nullptr};
