// Attention and its gradient in f32 arithmetic, with learned biases by distance; and the gradients of biases from sums by
// distance.
#include "attention_plain.cuh"

PLAIN(attention_plain_biased, f32, BIASED)
PLAIN(attention_plain_biased, f16, BIASED)
PLAIN(attention_plain_biased, bf16, BIASED)

// d_bias [buckets, heads] from the sums [heads, 2 reach + 1] of all blocks: n elements, a thread each.
KERNEL attention_bias_gradient(const float* sums, Count heads, const Buckets buckets, float* d_bias, Count n) {
  const Count i = index();
  if (i >= n) return;
  const int bucket = i / heads, reach = buckets.reach;
  sums += (int64_t)(i % heads) * (2 * reach + 1);
  float sum = 0.f;
#pragma unroll 1
  for (int distance = -reach; distance <= reach; distance++)
    if (bucket_of(buckets, distance) == bucket) sum += sums[distance + reach];
  d_bias[i] = sum;
}
