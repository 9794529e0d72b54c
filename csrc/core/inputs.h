#pragma once
#include "core/view.h"

namespace pyrec {

// What a network does to the values of its sparse input, before the first layer.

// out[q] = values[q] / the L2 norm of its row, indptr[b] <= q < indptr[b + 1]; rows of zeros stay as
// they are.
template <class T>
void normalize_rows(Vector<const std::int64_t> indptr, Vector<const T> values, Vector<T> out, int n_threads);

// Inverted dropout: out[q] is values[q] / (1 - share) or, with probability `share`, 0. What happens to
// an entry depends on seed and q alone: the same bits for any n_threads.
template <class T>
void drop(Vector<const T> values, double share, std::uint64_t seed, Vector<T> out, int n_threads);

}  // namespace pyrec
