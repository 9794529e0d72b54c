#pragma once
#include <cmath>
#include <cstdint>

#include "core/random.h"
#include "core/view.h"

namespace pyrec {

// What a network does to the values of its sparse input, before the first layer.

// out[q] = values[q] / the L2 norm of its row, indptr[b] <= q < indptr[b + 1]; rows of zeros stay as
// they are.
template <class T>
void normalize_rows(Vector<const std::int64_t> indptr, Vector<const T> values, Vector<T> out, int n_threads);

// An entry is kept where what is drawn for it is not below the threshold: half of the 64 bits, compared
// as 32-bit numbers, which vectors can. A threshold of 2^32 keeps nothing.
PYREC_INLINE std::uint32_t drawn_for(std::int64_t q, std::uint64_t seed) {
    return static_cast<std::uint32_t>(draw(seed, 0, static_cast<std::uint64_t>(q)) >> 32);
}
inline std::uint64_t threshold_of(double share) {
    return static_cast<std::uint64_t>(std::llround(share * 4294967296.0));
}

// Inverted dropout: out[q] is values[q] / (1 - share) or, with probability `share`, 0. What happens to
// an entry depends on seed and q alone: the same bits for any n_threads.
template <class T>
void drop(Vector<const T> values, double share, std::uint64_t seed, Vector<T> out, int n_threads);

}  // namespace pyrec
