#pragma once
#include <memory>
#include <vector>

#include "core/view.h"

namespace pyrec {

// Vectors of items laid out for products with blocks of rows: panels of neighbouring items one after
// the other, a panel's vectors side by side (entry k of all its items, then entry k + 1); the last
// panel is filled up with zeros. Rows are laid out likewise, in small groups. T is float or double.
//
// A product is a sum over k of row[k] * item[k], one multiply-add after the other in the order of k,
// whatever the block and the number of threads: always the same bits. BLAS would promise neither that
// nor, in blocks small enough to stay in the cache, this speed: it packs its operands in every call.
template <class T> struct ItemPanels {
    T* data;
    std::int64_t n_items, rank;

    static std::int64_t width();  // items of a panel
    static std::int64_t group();  // rows of a group
    static std::int64_t padded_rows(std::int64_t rows) { return (rows + group() - 1) / group() * group(); }
    static std::int64_t padded_items(std::int64_t items) { return (items + width() - 1) / width() * width(); }

    std::int64_t n_panels() const { return (n_items + width() - 1) / width(); }
    std::int64_t stride() const { return n_panels() * width(); }
    // Entry k of item `item`; those of its panel's other items are around it.
    const T& at(std::int64_t item, std::int64_t k) const {
        return data[(item / width() * rank + k) * width() + item % width()];
    }

    // Lays out a matrix with a row an item, which may be `data` itself: the memory of padded_items rows.
    void pack(Matrix<const T> items, int n_threads) const;

    // out[u * stride() + j] += product of row u and item j for the items of the panels begin..end and
    // all `rows`, whole groups of them, laid out by pack_group().
    void multiply(std::int64_t begin, std::int64_t end, const T* packed_rows, std::int64_t rows,
                  T* out) const;
};

// packed[k * group + r] = rows[r][k] for up to a group of rows; zero for those that are not there.
template <class T> void pack_group(Matrix<const T> rows, T* packed);

// Item factors with a bias, in memory of their own: scores are bias + product.
class PackedItems {
  public:
    // `bias` has an entry an item, or no data.
    PackedItems(Matrix<const float> items, Vector<const float> bias, int n_threads);

    // Floats between the scores of two users: the items, filled up to whole panels.
    std::int64_t stride() const { return panels_.stride(); }

    // scores[(u - begin) * stride() + j] for users begin..end; `scores` has room for whole groups.
    void multiply(Matrix<const float> h, std::int64_t begin, std::int64_t end, float* scores,
                  std::vector<float>& packed_users) const;

  private:
    std::unique_ptr<float[]> memory_;  // not a vector, whose zeros would be written in vain
    ItemPanels<float> panels_;
    std::vector<float> bias_;
};

}  // namespace pyrec
