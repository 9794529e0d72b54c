#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As in core/inputs.h, for float and double: dropout with the same bits.

template <class T> void normalize_rows(const Queue& queue, Vector<const std::int64_t> indptr,
                                       Vector<const T> values, Vector<T> out);

template <class T>
void drop(const Queue& queue, Vector<const T> values, double share, std::uint64_t seed, Vector<T> out);

}  // namespace pyrec::cuda
