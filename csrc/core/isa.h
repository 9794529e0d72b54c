#pragma once
#include <cstddef>  // any header of the C library defines __GLIBC__

// One body, three instruction sets, chosen by the dynamic linker at load time.
// Put it on leaf functions only: a lambda handed to parallel_for is not cloned with its caller.
// What a leaf calls must be PYREC_INLINE, or it is compiled once, for the default set.
#if defined(PYREC_DISPATCH) && defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && \
    !defined(__clang__)
#define PYREC_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define PYREC_HAS_CLONES 1
#else
#define PYREC_CLONES
#define PYREC_HAS_CLONES 0
#endif

// What it marks is shared: kernels for GPUs call the same code.
#if defined(__CUDACC__)
#define PYREC_INLINE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define PYREC_INLINE inline __attribute__((always_inline))
#else
#define PYREC_INLINE inline
#endif
