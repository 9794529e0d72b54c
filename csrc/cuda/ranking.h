#pragma once
#include <vector>

#include "core/measures.h"
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As pyrec::ranking, over the first `hits.cols` items of each list. `hits` (a row a row of items) and
// `n_hits` are working space; for the discounts see value_of.
void ranking(const Queue& queue, Matrix<const std::int32_t> items, const ItemLists& relevant,
             const std::vector<Measure>& measures, Vector<const double> discounts,
             Vector<const double> discount_sums, Matrix<std::int32_t> hits, Vector<std::int32_t> n_hits,
             Matrix<double> out);

}  // namespace pyrec::cuda
