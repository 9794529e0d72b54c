#pragma once
#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// Where each item of a CSR matrix occurs: the entries with item i are entries[begin[i]..begin[i + 1]],
// rows ascending, and the row of each ends at the entry row_ends[the same place].
struct Occurrences {
    const std::int64_t* begin;
    const std::int64_t* entries;
    const std::int64_t* row_ends;
};

// out[i,j] = sum_u x[u,i] * x[u,j] for j >= i, and 0 for j < i.
// With `ones` all values count as 1: the counts are whole numbers below 2^32, rounded to T at the end.
// The same bits in every run.
template <class T>
void gram(const Queue& queue, const Csr& x, const Occurrences& where, bool ones, Matrix<T> out);

// Copies the upper triangle over the lower one.
template <class T> void mirror_upper(const Queue& queue, Matrix<T> a);

}  // namespace pyrec::cuda
