#pragma once
#include "core/view.h"

namespace pyrec {

// One row of  offset + x * weights  for the row u of x; `offset` has an entry a column, or no data.
// Entries are summed in their order: the one definition of this product, for scores and networks.
void sparse_row(const Csr& x, std::int64_t u, Matrix<const float> weights, Vector<const float> offset,
                float* y);

// The same with weights of which most are zero.
void sparse_row(const Csr& x, std::int64_t u, const Csr& weights, Vector<const float> offset, float* y);

// out = offset + x * weights. Every row is summed by one thread: the same bits for any n_threads.
template <class T> void sparse_linear(const BasicCsr<T>& x, Matrix<const T> weights, Vector<const T> offset,
                                      Matrix<T> out, int n_threads);

void sparse_product(const Csr& x, const Csr& weights, Vector<const float> offset, Matrix<float> out,
                    int n_threads);

// grad = xᵀ * out_grad, all of it written: the gradient of the weights. Each of its rows is summed by
// one thread, in the order of x's rows.
template <class T>
void sparse_linear_weight_grad(const BasicCsr<T>& x, Matrix<const T> out_grad, Matrix<T> grad, int n_threads);

// grad[q] = <out_grad[row of q], weights[item of q]>: the gradient of x's values.
template <class T> void sparse_linear_value_grad(const BasicCsr<T>& x, Matrix<const T> weights,
                                                 Matrix<const T> out_grad, Vector<T> grad, int n_threads);

}  // namespace pyrec
