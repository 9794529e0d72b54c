#pragma once
#include <vector>

#include "core/view.h"

namespace pyrec {

struct SlimSettings {
    double lambda1, lambda2;
    bool nonnegative;
    double tolerance;         // of the duality gap, relative to G_jj / 2
    std::int64_t max_sweeps;  // over the active items of a column
};

// One column of B: its entries that are not zero, items ascending.
template <class T> struct SlimColumn {
    std::vector<std::int32_t> items;
    std::vector<T> values;
    double gap = 0;  // relative to G_jj / 2
    std::int64_t sweeps = 0;
};

// min over b of 1/2 |x_j - X b|^2 + lambda2/2 |b|^2 + lambda1 |b|_1 with b_j = 0 and, when
// `nonnegative`, b >= 0, for each j of `columns`: SLIM (Ning & Karypis 2011) by coordinate descent on
// G = X'X (Friedman, Hastie & Tibshirani 2010, covariance updates), on the items that matter.
//
// Row r of `start` is where column columns[r] begins; no rows: at zero. A column is one thread's work
// and depends on nothing else: the same bits for any n_threads and any set of columns.
// Memory a thread: 13 bytes an item, and a square of the active items of up to 64 MiB (while it grows,
// the smaller one beside it); with more active items than fit it works on G itself.
template <class T> void slim_columns(Matrix<const T> g, Vector<const std::int32_t> columns,
                                     const BasicCsr<T>& start, const SlimSettings& settings,
                                     std::vector<SlimColumn<T>>& out, int n_threads);

}  // namespace pyrec
