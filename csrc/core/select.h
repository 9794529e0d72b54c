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

// The k-th largest of n values; x is working space for n.
float kth_largest(const float* values, std::int64_t n, std::int64_t k, std::int32_t* x);

// sorted[0..found) = the smallest of the keys, ascending. The keys are distinct; they are lost.
void sort_keys(std::vector<std::uint64_t>& keys, std::int64_t found, std::uint64_t* sorted, Ahead ahead);

// Writes the items and scores of `found` sorted keys, then -1 and -inf, k in all.
void write_sorted(const std::uint64_t* sorted, std::int64_t found, std::int64_t k, std::int32_t* items,
                  float* best);

// A set of items that is filled and emptied by lists, a bit an item.
class ItemSet {
  public:
    explicit ItemSet(std::int64_t n_items) : words_(static_cast<std::size_t>((n_items + 63) / 64), 0) {}

    void add(const ItemLists& lists, std::int64_t row) {
        if (!lists.present) return;
        for (auto j = lists.begin(row); j < lists.end(row); ++j)
            words_[static_cast<std::size_t>(*j / 64)] |= std::uint64_t(1) << (*j % 64);
    }

    void remove(const ItemLists& lists, std::int64_t row) {
        if (!lists.present) return;
        for (auto j = lists.begin(row); j < lists.end(row); ++j)
            words_[static_cast<std::size_t>(*j / 64)] = 0;
    }

    bool has(std::int64_t item) const { return word(item / 64) >> (item % 64) & 1; }

    // Items 64 i and on.
    std::uint64_t word(std::int64_t i) const { return words_[static_cast<std::size_t>(i)]; }

  private:
    std::vector<std::uint64_t> words_;
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
    void lower_lanes(const float* scores, const ItemLists& lists, std::int64_t row);
    void collect_allowed(const float* scores, const ItemLists& allow, std::int64_t row);
    void collect(const float* scores);
    void push(float score, std::int64_t item);
    void write(std::int32_t* items, float* best);

    Shape shape_;
    std::int64_t k_;
    Ahead ahead_{nullptr, nullptr};
    ItemSet excluded_;
    std::vector<float> lanes_, sets_;              // maxima
    std::vector<std::int32_t> visited_, reached_;  // working space of collect()
    std::vector<std::uint64_t> keys_, sorted_;
};

}  // namespace pyrec
