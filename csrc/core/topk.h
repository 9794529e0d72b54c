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

// The same for weights that are sparse: an item that no history touches scores its offset, or 0.
void topk_sparse_weights(const Csr& x, const Csr& weights, Vector<const float> offset,
                         const Candidates& candidates, Matrix<std::int32_t> items, Matrix<float> best,
                         int n_threads);

// The same for the scores  h * itemsᵀ + bias (see PackedItems), in blocks of users. Memory: a copy of
// the item factors, and a block of scores a thread: 8 MiB, or 16 users where these are more.
void topk_factors(Matrix<const float> h, Matrix<const float> items, Vector<const float> bias,
                  const Candidates& candidates, Matrix<std::int32_t> best_items, Matrix<float> best,
                  int n_threads);

}  // namespace pyrec
