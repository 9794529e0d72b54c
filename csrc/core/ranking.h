#pragma once
#include <vector>

#include "core/measures.h"
#include "core/view.h"

namespace pyrec {

// out[m,b] = measure m of row b's list `items` (best first, -1 pads) against its relevant items;
// NaN for a row with nothing relevant. With hits h_i in {0, 1} at the ranks i = 1..k and R relevant:
//   ndcg       sum_i h_i / log2(i + 1)  over  sum_{i <= min(k, R)} 1 / log2(i + 1)
//   recall     sum_i h_i / min(k, R)           full_recall  sum_i h_i / R
//   hit        1 if any h_i, else 0            mrr          1 / (rank of the first hit), 0 if none
//   map        sum_i h_i * precision@i / min(k, R)          precision    sum_i h_i / k
void ranking(Matrix<const std::int32_t> items, const ItemLists& relevant, std::int64_t n_items,
             const std::vector<Measure>& measures, Matrix<double> out, int n_threads);

}  // namespace pyrec
