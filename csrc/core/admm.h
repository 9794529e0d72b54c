#pragma once
#include "core/admm_terms.h"
#include "core/product.h"
#include "core/view.h"

namespace pyrec {

// One iteration for some columns of B. Given P = (X'X + (lambda2 + rho) I)^-1 they do not depend on
// each other, nor do these bits on which of them are iterated together, or on n_threads.
//
// Row r of `w` is the state of column columns[r]: W = B + Gamma / rho, zero at first. With
//   C = soft(W, threshold), cut off at 0 when nonnegative,    D = 2C - W
//   B = e_j + rho P (D with D_j such that B_j = 0)            (equations 6 to 9, gamma eliminated)
// it becomes W + relaxation (B - C). What the iteration moved is left in residuals[r]: the larger of
// |B - C| / max(|B|, |C|) and |C - C before| / |W - C|, the primal and the dual residual.
//
// `p` is laid out by ItemPanels::pack; `d` has room for whole groups of rows, `b` for them with p's stride.
template <class T> void admm_step(const ItemPanels<T>& p, Vector<const std::int32_t> columns,
                                  const AdmmSettings<T>& settings, Matrix<T> w, T* d, T* b,
                                  Vector<double> residuals, int n_threads);

}  // namespace pyrec
