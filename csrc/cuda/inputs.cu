#include <cmath>

#include "core/inputs.h"
#include "cuda/inputs.h"

namespace pyrec::cuda {
namespace {

// A row of a history has a hundred entries.
constexpr int kRowThreads = 128, kThreads = 256;

template <class T> __global__ void __launch_bounds__(kRowThreads)
    normalize_kernel(const std::int64_t* indptr, const T* values, T* out) {
    const std::int64_t b = blockIdx.x, begin = indptr[b] + threadIdx.x, end = indptr[b + 1];
    double own = 0;
    for (std::int64_t q = begin; q < end; q += kRowThreads) {
        const auto value = static_cast<double>(values[q]);
        own += value * value;
    }
    const double squares = block_reduce<kRowThreads>(own, Sum{});
    const T scale = squares > 0 ? static_cast<T>(1 / std::sqrt(squares)) : T{1};
    for (std::int64_t q = begin; q < end; q += kRowThreads) out[q] = values[q] * scale;
}

template <class T> __global__ void __launch_bounds__(kThreads)
    drop_kernel(const T* values, std::int64_t n, std::uint64_t least, T scale, std::uint64_t seed, T* out) {
    const std::int64_t q = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (q < n) out[q] = drawn_for(q, seed) >= least ? values[q] * scale : T{0};
}

}  // namespace

template <class T> void normalize_rows(const Queue& queue, Vector<const std::int64_t> indptr,
                                       Vector<const T> values, Vector<T> out) {
    launch("normalize_rows", normalize_kernel<T>, dim3(blocks_for(indptr.size - 1, 1)), kRowThreads, 0, queue,
           indptr.data, values.data, out.data);
}

template <class T>
void drop(const Queue& queue, Vector<const T> values, double share, std::uint64_t seed, Vector<T> out) {
    launch("drop", drop_kernel<T>, dim3(blocks_for(values.size, kThreads)), kThreads, 0, queue, values.data,
           values.size, threshold_of(share), static_cast<T>(1 / (1 - share)), seed, out.data);
}

#define PYREC_INSTANTIATE(T)                                                                            \
    template void normalize_rows(const Queue&, Vector<const std::int64_t>, Vector<const T>, Vector<T>); \
    template void drop(const Queue&, Vector<const T>, double, std::uint64_t, Vector<T>);
PYREC_INSTANTIATE(float)
PYREC_INSTANTIATE(double)
#undef PYREC_INSTANTIATE

}  // namespace pyrec::cuda
