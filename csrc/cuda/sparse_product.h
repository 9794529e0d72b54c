#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// out = offset + x * weights, for weights of which most are zero; `offset` has an entry a column, or no data.
// Each score is summed in the order of the history.
void sparse_product(const Queue& queue, const Csr& x, const Csr& weights, Vector<const float> offset,
                    Matrix<float> out);

}  // namespace pyrec::cuda
