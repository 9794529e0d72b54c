#pragma once
#include "core/isa.h"
#include "core/view.h"

namespace pyrec {

// Training examples of a conditioned model: a row alone, or a row and a condition that it knows.
//
// An item of a row x has the conditions that row `item` of `items` names. A row has the example
// without a condition when neither x nor its targets are empty, and the example with condition c when
// an item of x has c and one of the targets has it. Numbers: first the rows alone, then the others by
// row and condition. The targets may be x itself.
struct Examples {
    Csr x, targets;                            // as many rows
    Csr items;                                 // items x conditions; its values are not read
    Vector<const std::int64_t> alone, paired;  // by row: how many examples come before, of each kind
    Vector<const std::uint64_t> masks;         // of up to 64 conditions: a bit each, an item a word
    bool same_targets;

    PYREC_INLINE std::int64_t n_alone() const { return alone[x.rows]; }
    std::int64_t size() const { return alone[x.rows] + paired[x.rows]; }
};

// 1 where an item has a condition; which one has cannot be foreseen, so there are no branches on it.
PYREC_INLINE std::int64_t has_condition(const Examples& e, std::int32_t item, std::int32_t condition) {
    if (e.masks.size != 0) return static_cast<std::int64_t>(e.masks[item] >> condition & 1);
    std::int64_t found = 0;
    for (std::int64_t p = e.items.indptr[item]; p < e.items.indptr[item + 1]; ++p)
        found |= e.items.indices[p] == condition;
    return found;
}

// The conditions of each item as bits, for `masks`.
void condition_masks(const Csr& items, Vector<std::uint64_t> masks);

// What `alone` and `paired` are sums of, a row each, and how many rows know each condition. Of
// `examples` the matrices alone are read.
void count_examples(const Examples& examples, Vector<std::int64_t> alone, Vector<std::int64_t> paired,
                    Vector<std::int64_t> conditions, int n_threads);

// Row and condition (-1: none) of the examples `numbers`.
void find_examples(const Examples& examples, Vector<const std::int64_t> numbers, Vector<std::int64_t> rows,
                   Vector<std::int32_t> conditions, int n_threads);

// The inputs as CSR, items and conditions beside each other: row b of the batch is the row rows[b] of x,
// then a 1 in column x.cols + conditions[b]. indptr is given.
void conditioned_inputs(const Examples& examples, Vector<const std::int64_t> rows,
                        Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                        Vector<std::int32_t> indices, Vector<float> values, int n_threads);

// The targets that have the condition, all of them without one, in two passes: sizes, then entries.
void count_targets(const Examples& examples, Vector<const std::int64_t> rows,
                   Vector<const std::int32_t> conditions, Vector<std::int64_t> sizes, int n_threads);
void conditioned_targets(const Examples& examples, Vector<const std::int64_t> rows,
                         Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                         Vector<std::int32_t> indices, Vector<float> values, int n_threads);

// The numbers, ascending, of `n_each` examples of each condition, drawn without replacement (all, of a
// condition with fewer): Knuth's selection sampling, with draws that depend on seed, epoch and the
// example. counts: the examples of each condition. numbers has room for the sum of min(n_each, counts).
void balanced_examples(const Examples& examples, Vector<const std::int64_t> counts, std::int64_t n_each,
                       std::uint64_t seed, std::uint64_t epoch, Vector<std::int64_t> numbers);

}  // namespace pyrec
