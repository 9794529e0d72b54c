#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As in core/sampler.h.
void take_rows(const Queue& queue, const Csr& x, Vector<const std::int64_t> numbers,
               Vector<const std::int64_t> indptr, Vector<std::int32_t> items, Vector<float> values);

// Without numbers (null): all rows in their order.
void take_rows_dense(const Queue& queue, const Csr& x, Vector<const std::int64_t> numbers, Matrix<float> out);

}  // namespace pyrec::cuda
