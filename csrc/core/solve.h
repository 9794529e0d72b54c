#pragma once
#include "core/blas.h"
#include "core/view.h"

namespace pyrec {

// Inverts a symmetric positive-definite matrix in place; reads and writes the upper triangle only.
// Returns 0, or the 1-based place of the pivot that was not positive (then `a` is spoilt).
// block 0: LAPACK's potrf and potri on the whole matrix. Otherwise the symmetric sweep by blocks of
// that many rows, which takes the same n^3 operations, almost all of them in gemm, and a panel of
// block x n beside the matrix.
// The products run on BLAS's own threads: results may differ in the last bits with their number.
template <class T>
std::int64_t spd_inverse(Matrix<T> a, std::int64_t block, const Blas<T>& blas, int n_threads);

// B[i,j] = -P[i,j] / P[j,j], B[j,j] = 0, in place, from the upper triangle of the symmetric P
// (Steck 2019, equation 8).
void ease_weights(Matrix<float> p, int n_threads);

}  // namespace pyrec
