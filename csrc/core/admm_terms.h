#pragma once
#include <cmath>

#include "core/isa.h"

namespace pyrec {

// min over B, C of 1/2 |X - XB|^2 + lambda2/2 |B|^2 + lambda1 |C|_1 with B = C, diag(B) = 0 and, when
// `nonnegative`, C >= 0: ADMM-SLIM (Steck, Dimakopoulou, Riabov & Jebara 2020).
template <class T> struct AdmmSettings {
    T rho;         // the penalty of |B - C|^2 / 2
    T threshold;   // lambda1 / rho
    T relaxation;  // 1: plain ADMM; towards 2: over-relaxed
    bool nonnegative;
};

// C = soft(W, threshold), cut off at 0 when nonnegative.
template <class T> PYREC_INLINE T shrink(T w, T threshold, bool nonnegative) {
    const T above = w - threshold, below = nonnegative ? T(0) : w + threshold;
    return above > 0 ? above : below < 0 ? below : T(0);
}

// An entry of B, of C before and after the iteration, and of W after it.
template <class T> struct AdmmEntry {
    T b, before, w, c;
};

// W + relaxation (B - C) for B = rho * product.
template <class T> PYREC_INLINE AdmmEntry<T> advanced(T product, T w, const AdmmSettings<T>& s) {
    const T b = s.rho * product, before = shrink(w, s.threshold, s.nonnegative);
    const T moved = w + s.relaxation * (b - before);
    return {b, before, moved, shrink(moved, s.threshold, s.nonnegative)};
}

// Squares of norms of a column: |B|, |C|, |B - C|, |C - C before|, |W - C|.
struct AdmmNorms {
    double b, c, gap, move, dual;
};

PYREC_INLINE double larger(double a, double b) { return a < b ? b : a; }  // a where one is NaN

// The larger of |B - C| / max(|B|, |C|) and |C - C before| / |W - C|, the primal and the dual residual.
PYREC_INLINE double residual(const AdmmNorms& norms) {
    // A column whose weights have a smaller norm counts as one of this norm: it may be zero in the end.
    constexpr double least_norm = 1e-2;
    // The least norm of W - C, relative to that of the weights.
    constexpr double least_dual = 1e-3;
    const double weights = larger(larger(std::sqrt(norms.b), std::sqrt(norms.c)), least_norm);
    const double primal = std::sqrt(norms.gap) / weights;
    // Where no constraint holds anything back Gamma is zero: then the move is held against the weights.
    const double dual = std::sqrt(norms.move) / larger(std::sqrt(norms.dual), least_dual * weights);
    return larger(primal, dual);
}

}  // namespace pyrec
