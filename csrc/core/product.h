#pragma once
#include <memory>
#include <vector>

#include "core/view.h"

namespace pyrec {

// Item factors laid out for products with blocks of users: a panel of neighbouring items after the
// other, a panel's factors k side by side. Memory: a copy of the factors.
//
// A score is bias + sum over k of h[k] * item[k], one multiply-add after the other in the order of k,
// whatever the block and the number of threads: always the same bits. BLAS would promise neither
// that nor, in blocks small enough to stay in the cache, this speed: it packs its operands anew in
// every call.
class PackedItems {
  public:
    // `bias` has an entry an item, or no data.
    PackedItems(Matrix<const float> items, Vector<const float> bias, int n_threads);

    // Floats between the scores of two users: the items, filled up to whole panels.
    std::int64_t stride() const { return n_panels_ * width_; }

    // Users handled at once: what multiply() needs rows of scores for is filled up to whole groups.
    std::int64_t padded(std::int64_t users) const { return (users + height_ - 1) / height_ * height_; }

    // scores[(u - begin) * stride() + j] for users begin..end; `scores` has padded(end - begin) rows.
    void multiply(Matrix<const float> h, std::int64_t begin, std::int64_t end, float* scores,
                  std::vector<float>& packed_users) const;

  private:
    std::int64_t rank_, height_, width_, n_panels_;
    std::unique_ptr<float[]> panels_;  // not a vector, whose zeros would be written in vain
    std::vector<float> bias_;
};

}  // namespace pyrec
