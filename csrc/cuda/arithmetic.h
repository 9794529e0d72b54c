#pragma once
// Arithmetic of the core for which devices have instructions of their own: so few that rows of bfloat16 wait
// for memory, not for them.
#include <type_traits>

#include "core/vecmath.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// `exponential`, with an error within the same bound.
__device__ __forceinline__ double exp_of(double x) { return exponential(x); }
__device__ __forceinline__ float exp_of(float x) {
#if defined(PYREC_ON_CPU)
    return exponential(x);
#else
    constexpr float log2e = 1.44269504f;
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * log2e));
    return y;
#endif
}

// `narrow`; a NaN may have other bits.
template <class T, class S> __device__ __forceinline__ void round_to(S& y, T x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    if constexpr (std::is_same_v<S, Bf16>) {
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
        return;
    }
#endif
    narrow(x, y);
}

}  // namespace pyrec::cuda
