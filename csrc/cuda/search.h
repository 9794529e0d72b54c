#pragma once
// Where a number belongs, and sums over the threads of a block.
#include "cuda/device.h"

namespace pyrec::cuda {

// The row of entry q: the last of n rows that does not begin behind it.
__device__ __forceinline__ std::int64_t row_of(const std::int64_t* offsets, std::int64_t n, std::int64_t q) {
    std::int64_t low = 0, high = n;
    while (high - low > 1) {
        const std::int64_t middle = low + (high - low) / 2;
        if (offsets[middle] <= q) low = middle;
        else high = middle;
    }
    return low;
}

// The first place from `first` on, up to `last`, whose item is not below `item`; items ascend.
__device__ __forceinline__ std::int64_t first_from(const std::int32_t* items, std::int64_t first,
                                                   std::int64_t last, std::int64_t item) {
    while (first < last) {
        const std::int64_t middle = first + (last - first) / 2;
        if (items[middle] < item) first = middle + 1;
        else last = middle;
    }
    return first;
}

// The sum over the threads of a block that come before, and in `total` that over all kThreads.
template <int kThreads, class T> __device__ T block_sum_before(T value, T* total) {
    constexpr unsigned warps = kThreads / kWarp;
    static_assert(kThreads % kWarp == 0 && warps <= kWarp);
    __shared__ T sums[warps];
    const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    T up_to = value;
    for (unsigned by = 1; by < kWarp; by *= 2) {
        const T other = __shfl_up_sync(kAllLanes, up_to, by);
        if (lane >= by) up_to += other;
    }
    __syncthreads();  // the memory may still be read from a call before
    if (lane == kWarp - 1) sums[warp] = up_to;
    __syncthreads();
    T before = up_to - value;
    *total = 0;
    for (unsigned w = 0; w < warps; ++w) {
        if (w < warp) before += sums[w];
        *total += sums[w];
    }
    return before;
}

}  // namespace pyrec::cuda
