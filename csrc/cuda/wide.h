#pragma once
// 16 bytes at a time, which is what reaches the memory's bandwidth.
#include <cstring>

#include "cuda/device.h"

// Before a loop over elements that are to stay in registers.
#if defined(PYREC_ON_CPU)
#define PYREC_UNROLL
#else
#define PYREC_UNROLL _Pragma("unroll")
#endif

namespace pyrec::cuda {

// Threads of a multiprocessor for which registers are shared out, where a kernel's bandwidth comes from
// what each thread has under way: told only a block's size, the compiler gives each as few as it can.
constexpr int kResident = 1024;

template <class T, int N> struct alignas(sizeof(T) * N) Pack {
    T at[N];
};

template <class T> constexpr int kWide = static_cast<int>(16 / sizeof(T));

template <class T, int N> __host__ __device__ __forceinline__ bool is_aligned(const T* p) {
    return reinterpret_cast<std::uintptr_t>(p) % sizeof(Pack<T, N>) == 0;
}

// N elements, at most 16 bytes, from an address that is aligned for them.
template <int N, class T> __device__ __forceinline__ void load_aligned(const T* from, T (&to)[N]) {
    const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
    PYREC_UNROLL for (int i = 0; i < N; ++i) to[i] = pack.at[i];
}

template <int N, class T> __device__ __forceinline__ void store_aligned(const T (&from)[N], T* to) {
    Pack<T, N> pack;
    PYREC_UNROLL for (int i = 0; i < N; ++i) pack.at[i] = from[i];
    *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// The same to global memory; the compiler sometimes takes a pack apart, but not this.
template <int N, class T> __device__ __forceinline__ void store_global(const T (&from)[N], T* to) {
#if !defined(PYREC_ON_CPU)
    if constexpr (sizeof(Pack<T, N>) == 16) {
        float part[4];
        std::memcpy(part, from, sizeof part);
        asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};"
                     :
                     : "l"(__cvta_generic_to_global(to)), "f"(part[0]), "f"(part[1]), "f"(part[2]),
                       "f"(part[3])
                     : "memory");
        return;
    }
#endif
    store_aligned(from, to);
}

// N elements from anywhere; by 16 bytes at most where the address allows it.
template <int N, class T> __device__ __forceinline__ void load(const T* from, T (&to)[N]) {
    constexpr int each = N < kWide<T> ? N : kWide<T>;
    if (is_aligned<T, each>(from)) {
        PYREC_UNROLL for (int first = 0; first < N; first += each) {
            T some[each];
            load_aligned(from + first, some);
            PYREC_UNROLL for (int i = 0; i < each; ++i) to[first + i] = some[i];
        }
    } else {
        PYREC_UNROLL for (int i = 0; i < N; ++i) to[i] = from[i];
    }
}

}  // namespace pyrec::cuda
