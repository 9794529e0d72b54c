#pragma once
#include "core/topk.h"
#include "core/vecmath.h"
#include "core/view.h"

namespace pyrec {

constexpr std::int64_t kPanel = 64;  // columns

// Square item-item weights laid out for histories: places (items in an order of their own, those with
// large columns first) in panels of 64 neighbouring columns, a panel's rows one after the other. A
// user's rows are then summed in registers, and the rows that occur often stay in the cache. T is
// float or Bf16; of the latter each group of 32 columns holds column c beside column c + 16, which
// makes the halves of 16 words two vectors.
//
// `bounds` has the largest weight of each row in each panel, in panels again: 64 times fewer sums
// that tell which panels a user can skip.
//
// A view: the memory belongs to the caller, who may have mapped it from a file.
template <class T> struct Panels {
    std::int64_t n_items;
    std::int32_t* order;  // the item at each place, 0 beyond the last
    T* weights;           // [panel][place of the row][64]
    float* bounds;        // [64 panels][place of the row][64]

    static std::int64_t panels(std::int64_t columns) { return (columns + kPanel - 1) / kPanel; }

    static std::int64_t bytes(std::int64_t n_items) {
        const std::int64_t n = panels(n_items), size = sizeof(T);
        return kPanel * (n * 4 + n * n_items * size + panels(n) * n_items * 4);
    }

    Panels(void* memory, std::int64_t n) : n_items(n) {
        order = static_cast<std::int32_t*>(memory);
        weights = reinterpret_cast<T*>(order + count() * kPanel);
        bounds = reinterpret_cast<float*>(weights + count() * n * kPanel);
    }

    std::int64_t count() const { return panels(n_items); }
    T* panel(std::int64_t p) const { return weights + p * n_items * kPanel; }
    float* bound(std::int64_t group) const { return bounds + group * n_items * kPanel; }
};

// Fills in the order of panels: first of all.
void weights_order(Matrix<const float> weights, std::int32_t* order, int n_threads);

// Fills in the rows of the places first..last; Bf16 rounds to nearest. In pieces, so that the pages of
// weights that are mapped from a file can be let go in between.
template <class T> void pack_weights(Matrix<const float> weights, const Panels<T>& panels, std::int64_t first,
                                     std::int64_t last, int n_threads);

// The k best candidates of the scores  offset + x * weights,  as topk_dense_weights gives them: the
// same sums in the same order (of weights that are rounded, with Bf16), ties to the smaller item.
// Neither scores nor anything else of users x items is ever written: memory is about 2,000 bytes a
// user (at k = 100) of a block, at most 64 MiB, and 4 bytes an entry and 256 bytes a user beside.
//
// Lists of allowed items for each row are meant to be short: each item is a sum of its own.
template <class T> void topk_panels(const Csr& x, const Panels<T>& panels, Vector<const float> offset,
                                    const Candidates& candidates, Matrix<std::int32_t> items,
                                    Matrix<float> best, int n_threads);

}  // namespace pyrec
