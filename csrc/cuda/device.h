#pragma once
// What every kernel stands on: launches that are checked, reductions, and the CPU in a GPU's place.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#if defined(PYREC_ON_CPU)
#include "cuda/on_cpu.h"
#else
#include <cuda_runtime.h>
#endif

#include "core/isa.h"

namespace pyrec::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// A device and one of its streams: work is queued there, and nobody waits for it.
struct Queue {
    int device;
    cudaStream_t stream;
};

// Blocks needed for n things, so many a block.
inline unsigned blocks_for(std::int64_t n, std::int64_t each) {
    return static_cast<unsigned>((n + each - 1) / each);
}

// The bindings, which no compiler for GPUs sees, need no more.
#if defined(PYREC_ON_CPU) || defined(__CUDACC__)

#if defined(PYREC_ON_CPU)
#define PYREC_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(pyrec::on_cpu::dynamic_shared())

template <class... P, class... A> void launch(const char*, void (*kernel)(P...), dim3 grid, int block,
                                              std::size_t shared, const Queue&, A... args) {
    if (grid.x == 0 || grid.y == 0) return;
    on_cpu::run(grid, static_cast<unsigned>(block), shared, [&] { kernel(static_cast<P>(args)...); });
}
#else
// One array of bytes a kernel, whatever its type there.
#define PYREC_DYNAMIC_SHARED(T, name)                             \
    extern __shared__ __align__(16) unsigned char pyrec_shared[]; \
    T* const name = reinterpret_cast<T*>(pyrec_shared)

inline void check(const char* name, cudaError_t error) {
    if (error != cudaSuccess)
        throw std::runtime_error(std::string("CUDA kernel ") + name + ": " + cudaGetErrorString(error));
}

// The device of a launch; afterwards the thread has the one again that it had before.
class CurrentDevice {
  public:
    CurrentDevice(const char* name, int device) : device_(device) {
        check(name, cudaGetDevice(&before_));
        if (before_ != device_) check(name, cudaSetDevice(device_));
    }
    ~CurrentDevice() {
        if (before_ != device_) cudaSetDevice(before_);
    }
    CurrentDevice(const CurrentDevice&) = delete;
    CurrentDevice& operator=(const CurrentDevice&) = delete;

  private:
    int before_ = 0, device_;
};

// Queues a kernel. At most 48 KiB of shared memory in all, which every device has.
template <class... P, class... A> void launch(const char* name, void (*kernel)(P...), dim3 grid, int block,
                                              std::size_t shared, const Queue& queue, A... args) {
    if (grid.x == 0 || grid.y == 0) return;
    const CurrentDevice current(name, queue.device);
    // clang-format off
    kernel<<<grid, block, shared, queue.stream>>>(static_cast<P>(args)...);
    // clang-format on
    check(name, cudaGetLastError());
}
#endif

// Joins the values of a warp; every lane gets the result, which has the same bits on any device.
template <class T, class Join> __device__ __forceinline__ T warp_reduce(T value, Join join) {
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2)
        value = join(value, __shfl_xor_sync(kAllLanes, value, lanes));
    return value;
}

// Joins the values of a block of kThreads; every thread gets the result.
template <int kThreads, class T, class Join> __device__ T block_reduce(T value, Join join) {
    constexpr int warps = kThreads / kWarp;
    static_assert(kThreads % kWarp == 0 && warps <= kWarp);
    __shared__ T parts[warps];
    value = warp_reduce(value, join);
    __syncthreads();  // the memory may still be read from a call before
    if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
    __syncthreads();
    T result = parts[0];
    for (int w = 1; w < warps; ++w) result = join(result, parts[w]);
    return result;
}

struct Sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
// A NaN wins.
struct Max {
    template <class T> __device__ T operator()(T a, T b) const { return b > a || b != b ? b : a; }
};

#endif

}  // namespace pyrec::cuda
