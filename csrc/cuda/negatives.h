#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// Words of memory that `negatives` needs for so many rows; 0 where a row's bits fit into shared memory.
std::int64_t negatives_workspace(std::int64_t n_rows, std::int64_t n_items);

// As in core/negatives.h, the same sets. Items of x ascend within a row.
void negatives(const Queue& queue, const Csr& x, double share, std::uint64_t seed, std::uint64_t step,
               bool with_observed, Matrix<bool> out, Vector<std::uint64_t> workspace);

}  // namespace pyrec::cuda
