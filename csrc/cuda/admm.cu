#include "cuda/admm.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 128;  // a block makes a column of B

template <class T> __global__ void aim(Matrix<const T> p, Vector<const std::int32_t> columns,
                                       AdmmSettings<T> s, Matrix<const T> w, Matrix<T> d) {
    const std::int64_t r = blockIdx.x, j = columns[r];
    const T* const state = w.row(r);
    const T* const row = p.row(j);  // P is symmetric: its column j
    T* const out = d.row(r);
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < w.cols; i += kThreads) {
        if (i == j) continue;
        const T entry = 2 * shrink(state[i], s.threshold, s.nonnegative) - state[i];
        out[i] = entry;
        sum += static_cast<double>(row[i]) * entry;
    }
    sum = block_reduce<kThreads>(sum, Sum{});
    if (threadIdx.x == 0) out[j] = static_cast<T>(-(1.0 / s.rho + sum) / row[j]);
}

template <class T> __global__ void advance(Vector<const std::int32_t> columns, AdmmSettings<T> s,
                                           Matrix<const T> product, Matrix<T> w, Vector<double> residuals) {
    const std::int64_t r = blockIdx.x, j = columns[r];
    const T* const made = product.row(r);
    T* const state = w.row(r);
    AdmmNorms norms{0, 0, 0, 0, 0};
    for (std::int64_t i = threadIdx.x; i < w.cols; i += kThreads) {
        // B_j is 0 but for rounding.
        const AdmmEntry<T> e = advanced(i == j ? T(0) : made[i], state[i], s);
        state[i] = e.w;
        const double difference = e.b - e.c, step = e.c - e.before, multiplier = e.w - e.c;
        norms.b += static_cast<double>(e.b) * e.b;
        norms.c += static_cast<double>(e.c) * e.c;
        norms.gap += difference * difference;
        norms.move += step * step;
        norms.dual += multiplier * multiplier;
    }
    norms.b = block_reduce<kThreads>(norms.b, Sum{});
    norms.c = block_reduce<kThreads>(norms.c, Sum{});
    norms.gap = block_reduce<kThreads>(norms.gap, Sum{});
    norms.move = block_reduce<kThreads>(norms.move, Sum{});
    norms.dual = block_reduce<kThreads>(norms.dual, Sum{});
    if (threadIdx.x == 0) residuals[r] = residual(norms);
}

}  // namespace

template <class T> void admm_aim(const Queue& queue, Matrix<const T> p, Vector<const std::int32_t> columns,
                                 const AdmmSettings<T>& settings, Matrix<const T> w, Matrix<T> d) {
    launch("admm_aim", aim<T>, blocks_for(w.rows, 1), kThreads, 0, queue, p, columns, settings, w, d);
}

template <class T> void admm_advance(const Queue& queue, Vector<const std::int32_t> columns,
                                     const AdmmSettings<T>& settings, Matrix<const T> product, Matrix<T> w,
                                     Vector<double> residuals) {
    launch("admm_advance", advance<T>, blocks_for(w.rows, 1), kThreads, 0, queue, columns, settings, product,
           w, residuals);
}

#define PYREC_INSTANTIATE(T)                                                                     \
    template void admm_aim(const Queue&, Matrix<const T>, Vector<const std::int32_t>,            \
                           const AdmmSettings<T>&, Matrix<const T>, Matrix<T>);                  \
    template void admm_advance(const Queue&, Vector<const std::int32_t>, const AdmmSettings<T>&, \
                               Matrix<const T>, Matrix<T>, Vector<double>);
PYREC_INSTANTIATE(float)
PYREC_INSTANTIATE(double)
#undef PYREC_INSTANTIATE

}  // namespace pyrec::cuda
