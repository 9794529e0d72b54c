#include "core/admm.h"

#include <algorithm>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

// Panels of a task: what it adds up of a few hundred columns stays in the second-level cache.
constexpr std::int64_t kPanels = 8;

template <class T> PYREC_INLINE void direction(const T* w, std::int64_t n, const AdmmSettings<T>& s, T* d) {
    const T threshold = s.threshold;
    const bool nonnegative = s.nonnegative;
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) d[i] = 2 * shrink(w[i], threshold, nonnegative) - w[i];
}

template <class T> PYREC_INLINE double dot(const T* x, const T* y, std::int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(x[i]) * y[i];
    return sum;
}

// The entries of a column after an iteration, in place.
template <class T>
PYREC_INLINE AdmmNorms advance(const T* product, std::int64_t n, const AdmmSettings<T>& settings, T* w) {
    const AdmmSettings<T> s = settings;  // of which the compiler knows that no entry changes it
    double bb = 0, cc = 0, gap = 0, move = 0, dual = 0;
#pragma omp simd reduction(+ : bb, cc, gap, move, dual)
    for (std::int64_t i = 0; i < n; ++i) {
        const AdmmEntry<T> e = advanced(product[i], w[i], s);
        w[i] = e.w;
        const double difference = e.b - e.c, step = e.c - e.before, multiplier = e.w - e.c;
        bb += static_cast<double>(e.b) * e.b;
        cc += static_cast<double>(e.c) * e.c;
        gap += difference * difference;
        move += step * step;
        dual += multiplier * multiplier;
    }
    return {bb, cc, gap, move, dual};
}

#define PYREC_LEAVES(T)                                                                                   \
    PYREC_CLONES void direction_of(const T* w, std::int64_t n, const AdmmSettings<T>& s, T* d) {          \
        direction(w, n, s, d);                                                                            \
    }                                                                                                     \
    PYREC_CLONES double dot_of(const T* x, const T* y, std::int64_t n) { return dot(x, y, n); }           \
    PYREC_CLONES AdmmNorms advance_by(const T* product, std::int64_t n, const AdmmSettings<T>& s, T* w) { \
        return advance(product, n, s, w);                                                                 \
    }
PYREC_LEAVES(float)
PYREC_LEAVES(double)
#undef PYREC_LEAVES

// D of one column, with the entry D_j = -(1 / rho + sum over i != j of P_ji D_i) / P_jj: B_j becomes 0.
template <class T>
void aim(const ItemPanels<T>& p, std::int64_t j, const T* w, const AdmmSettings<T>& s, T* d) {
    direction_of(w, p.rank, s, d);
    d[j] = 0;
    double sum = 0;
    // P is symmetric: of its column j the rows of a panel lie side by side.
    for (std::int64_t first = 0; first < p.n_items; first += p.width())
        sum += dot_of(&p.at(first, j), d + first, std::min(p.width(), p.n_items - first));
    d[j] = static_cast<T>(-(1.0 / s.rho + sum) / p.at(j, j));
}

}  // namespace

template <class T> void admm_step(const ItemPanels<T>& p, Vector<const std::int32_t> columns,
                                  const AdmmSettings<T>& settings, Matrix<T> w, T* d, T* b,
                                  Vector<double> residuals, int n_threads) {
    const std::int64_t group = p.group(), rows = p.padded_rows(w.rows);
    parallel_for(rows, group, n_threads, [&](std::int64_t begin, std::int64_t) {
        const std::int64_t count = std::min(group, w.rows - begin);
        std::vector<T> aims(static_cast<std::size_t>(count * w.cols));
        for (std::int64_t r = 0; r < count; ++r)
            aim(p, columns[begin + r], w.row(begin + r), settings, aims.data() + r * w.cols);
        pack_group<T>({aims.data(), count, w.cols}, d + begin * w.cols);
    });
    parallel_for(p.n_panels(), kPanels, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = 0; r < rows; ++r)
            std::fill(b + r * p.stride() + begin * p.width(), b + r * p.stride() + end * p.width(), T(0));
        p.multiply(begin, end, d, rows, b);
    });
    parallel_for(w.rows, 1, n_threads, [&](std::int64_t r, std::int64_t) {
        T* const product = b + r * p.stride();
        product[columns[r]] = 0;  // but for rounding
        // B = e_j + rho P D: the 1 is in its entry j alone, which is 0 by the choice of D_j.
        residuals[r] = residual(advance_by(product, w.cols, settings, w.row(r)));
    });
}

template void admm_step(const ItemPanels<float>&, Vector<const std::int32_t>, const AdmmSettings<float>&,
                        Matrix<float>, float*, float*, Vector<double>, int);
template void admm_step(const ItemPanels<double>&, Vector<const std::int32_t>, const AdmmSettings<double>&,
                        Matrix<double>, double*, double*, Vector<double>, int);

}  // namespace pyrec
