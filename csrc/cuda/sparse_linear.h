#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As in core/sparse_linear.h, for float and double. Entries of a row are summed in an order that depends
// on their number and on that of the columns only.

// out = offset + x * weights; `offset` has an entry a column, or no data.
template <class T> void sparse_linear(const Queue& queue, const BasicCsr<T>& x, Matrix<const T> weights,
                                      Vector<const T> offset, Matrix<T> out);

// grad = transposed * out_grad, all of it written: the gradient of the weights. `transposed` is x by its
// items: a row each, whose entries are x's rows.
template <class T> void sparse_linear_weight_grad(const Queue& queue, const BasicCsr<T>& transposed,
                                                  Matrix<const T> out_grad, Matrix<T> grad);

// grad[q] = <out_grad[row of q], weights[item of q]>: the gradient of x's values.
template <class T> void sparse_linear_value_grad(const Queue& queue, const BasicCsr<T>& x,
                                                 Matrix<const T> weights, Matrix<const T> out_grad,
                                                 Vector<T> grad);

}  // namespace pyrec::cuda
