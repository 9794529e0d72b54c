#pragma once
#include <cstdint>
#include <vector>

#include "core/isa.h"
#include "core/topk.h"

namespace pyrec {

// How the items of a row are cut up: blocks of 64, groups of `width` blocks.
struct Shape {
    std::int64_t n_items, n_blocks, n_groups, width;
};

// Fetches memory into the second-level cache bit by bit: selection computes, the row that comes next
// can arrive meanwhile.
struct Ahead {
    const char *next, *end;

    PYREC_INLINE void fetch(int lines) {
        for (int i = 0; i < lines && next < end; ++i, next += 64) __builtin_prefetch(next, 0, 2);
    }
};

// Selects the k best candidates of one score row after another, with memory of its own for one row.
//
// The k-th largest of the maxima of k or more disjoint sets of items is a lower bound of the k-th
// best score, so only sets that reach it are visited: exact, and the row is read once. Maxima are
// kept lane by lane, so that none is ever taken across a vector: lane l of block b holds the items
// 64 b + l + {0, 16, 32, 48}, and set s = (group, l) the lanes l of a group's blocks.
class Selector {
  public:
    Selector(std::int64_t n_items, std::int64_t k);

    // Writes k items and scores; `row` says which of the candidate lists hold.
    void select(const float* scores, const Candidates& candidates, std::int64_t row, const float* next_scores,
                std::int32_t* items, float* best);

  private:
    void mark(const ItemLists& lists, std::int64_t row);
    void unmark(const ItemLists& lists, std::int64_t row);
    bool excluded(std::int64_t item) const;
    void lower_lanes(const float* scores, const ItemLists& lists, std::int64_t row);
    void collect_allowed(const float* scores, const ItemLists& allow, std::int64_t row);
    void collect(const float* scores);
    void push(float score, std::int64_t item);
    void write(const float* scores, std::int32_t* items, float* best);

    Shape shape_;
    std::int64_t k_;
    Ahead ahead_{nullptr, nullptr};
    std::vector<std::uint64_t> excluded_;          // a bit an item
    std::vector<float> lanes_, sets_;              // maxima
    std::vector<std::int32_t> visited_, reached_;  // working space of collect()
    std::vector<std::uint64_t> keys_, sorted_;
};

}  // namespace pyrec
