#pragma once
#include "core/view.h"

namespace pyrec {

// Which items of each row take part: those in `allow` (all, when absent) that are neither in `seen`
// nor in `deny`.
struct Candidates {
    ItemLists seen, deny, allow;
};

// The k best candidates of each row, best first; ties go to the smaller item number. A NaN never
// wins and a score of -inf means excluded. Rows with fewer than k candidates are padded with item
// -1 and score -inf. Every row is selected by one thread: the same bits for any n_threads.
void topk(Matrix<const float> scores, const Candidates& candidates, Matrix<std::int32_t> items,
          Matrix<float> best, int n_threads);

// The same for the scores  offset + x * weights, of which only one row a thread ever exists.
// `offset` has an entry an item, or no data. Histories are summed in ascending item order.
void topk_dense_weights(const Csr& x, Matrix<const float> weights, Vector<const float> offset,
                        const Candidates& candidates, Matrix<std::int32_t> items, Matrix<float> best,
                        int n_threads);

// out = offset + x * weights: the scores that topk_dense_weights ranks, bit for bit.
void scores_dense_weights(const Csr& x, Matrix<const float> weights, Vector<const float> offset,
                          Matrix<float> out, int n_threads);

}  // namespace pyrec
