#pragma once
#include "core/view.h"

namespace pyrec {

// out[i,j] = sum_u x[u,i] * x[u,j] for j >= i, and for j < i too when `mirror` (else 0 there).
// Row i of `out` is summed over the users of item i in ascending order, by one thread: the same
// bits for any n_threads. Counts (all values 1) are exact up to 2^24 in float32.
// Beside `out` it takes 8 bytes an interaction, 8 an item, and one row a thread.
template <class T> void gram(const Csr& x, Matrix<T> out, bool mirror, int n_threads);

// Copies the upper triangle over the lower one.
template <class T> void mirror_upper(Matrix<T> a, int n_threads);

}  // namespace pyrec
