#pragma once
#include <cstdint>
#include <vector>

#include "core/topk.h"

namespace pyrec {

// Selects the k best candidates of one score row after another, with memory of its own for one row.
//
// The k-th largest of the maxima of the 64-item blocks is a lower bound of the k-th best score, so
// only the blocks that reach it are visited: exact, and the row is read once.
class Selector {
  public:
    Selector(std::int64_t n_items, std::int64_t k);

    // Writes k items and scores; `row` says which of the candidate lists hold.
    void select(const float* scores, const Candidates& candidates, std::int64_t row,
                std::int32_t* items, float* best);

  private:
    void exclude(const float* scores, const ItemLists& lists, std::int64_t row);
    void readmit(const ItemLists& lists, std::int64_t row);
    void collect_allowed(const float* scores, const ItemLists& allow, std::int64_t row);
    void collect(const float* scores);
    float bound();
    void write(const float* scores, std::int32_t* items, float* best);

    std::int64_t n_items_, k_, n_blocks_, n_keys_ = 0;
    std::vector<std::uint64_t> excluded_;  // a bit an item
    std::vector<float> lanes_;             // 16 maxima a block: lane l holds items l, l + 16, l + 32, l + 48
    std::vector<float> blocks_;            // a maximum a block
    std::vector<std::int32_t> ordered_;    // working space of bound()
    std::vector<std::uint64_t> keys_, sorted_;
};

}  // namespace pyrec
