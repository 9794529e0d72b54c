#pragma once
#include "core/admm_terms.h"
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// What comes before and after the product of an iteration (core/admm.h): row r of `w` is the state of
// column columns[r], and so is that of `d` and of `product`, which is D P.

// D = 2C - W with the entry D_j = -(1 / rho + sum over i != j of P_ji D_i) / P_jj: B_j becomes 0.
template <class T> void admm_aim(const Queue& queue, Matrix<const T> p, Vector<const std::int32_t> columns,
                                 const AdmmSettings<T>& settings, Matrix<const T> w, Matrix<T> d);

// W becomes W + relaxation (B - C) for B = rho * product with B_j = 0; the residuals say how far it moved.
template <class T> void admm_advance(const Queue& queue, Vector<const std::int32_t> columns,
                                     const AdmmSettings<T>& settings, Matrix<const T> product, Matrix<T> w,
                                     Vector<double> residuals);

}  // namespace pyrec::cuda
