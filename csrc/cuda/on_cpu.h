#pragma once
// CUDA's device functions on the CPU, so that the kernels' own code can be tested without a GPU.
//
// Blocks run one after the other, the threads of a block as fibers that switch at barriers, in an order
// that changes from round to round: where a barrier is missing, results change with it. What leaves a
// barrier or a shuffle unattended by some thread, exited ones included, raises an error.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
    float x, y, z, w;
};
using cudaStream_t = void*;

extern dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace pyrec::on_cpu {

void run(dim3 grid, unsigned block, std::size_t shared, const std::function<void()>& thread);
void* dynamic_shared();
void wait_for_block();
void wait_for_warp();
// Eight bytes of each lane of the running thread's warp.
void put(const void* value, std::size_t size);
void get(unsigned lane, void* value, std::size_t size);

inline unsigned lane() { return threadIdx.x % 32; }

template <class T> T shuffled(T value, unsigned from) {
    static_assert(sizeof(T) <= 8);
    put(&value, sizeof value);
    wait_for_warp();
    T other;
    get(from % 32, &other, sizeof other);
    wait_for_warp();
    return other;
}

}  // namespace pyrec::on_cpu

inline void __syncthreads() { pyrec::on_cpu::wait_for_block(); }
inline int __syncthreads_or(int predicate) {
    static bool any;
    pyrec::on_cpu::wait_for_block();  // the answer before this one has been read
    any = false;
    pyrec::on_cpu::wait_for_block();
    any = any || predicate != 0;
    pyrec::on_cpu::wait_for_block();
    return any;
}
inline void __syncwarp(unsigned = 0xffffffffu) { pyrec::on_cpu::wait_for_warp(); }

template <class T> T __shfl_sync(unsigned, T value, int from) {
    return pyrec::on_cpu::shuffled(value, static_cast<unsigned>(from));
}
template <class T> T __shfl_xor_sync(unsigned, T value, int lanes) {
    return pyrec::on_cpu::shuffled(value, pyrec::on_cpu::lane() ^ static_cast<unsigned>(lanes));
}
template <class T> T __shfl_up_sync(unsigned, T value, unsigned by) {
    const unsigned lane = pyrec::on_cpu::lane();
    return pyrec::on_cpu::shuffled(value, lane >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    unsigned bits = (predicate != 0 ? 1u : 0u) << pyrec::on_cpu::lane();
    for (int lanes = 16; lanes > 0; lanes /= 2) bits |= __shfl_xor_sync(0xffffffffu, bits, lanes);
    return bits;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

template <class T> T __ldg(const T* address) { return *address; }

// The fibers of a block share one thread: nothing comes between.
template <class T> T atomicAdd(T* address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}
template <class T> T atomicOr(T* address, T value) {
    const T before = *address;
    *address = before | value;
    return before;
}
template <class T> T atomicAnd(T* address, T value) {
    const T before = *address;
    *address = before & value;
    return before;
}
