#pragma once
#include <cmath>
#include <cstdint>

#include "core/random.h"
#include "core/view.h"

namespace pyrec {

constexpr int kNegativeBits = 8;  // of the chance in which an item is drawn at first
// Where the pool of items to turn is below this share of all items, it is listed; above it, guessed at.
constexpr std::int64_t kNegativeSparse = 16;

// How many of n_free items are wanted, and the chance (of 2^kNegativeBits) in which one is drawn at first.
struct NegativeCounts {
    std::int64_t wanted;
    int chance;
};

PYREC_INLINE NegativeCounts negative_counts(double share, std::int64_t n_free) {
    const auto wanted = static_cast<std::int64_t>(std::nearbyint(share * static_cast<double>(n_free)));
    if (n_free == 0) return {wanted, 0};
    const double part = static_cast<double>(wanted) / static_cast<double>(n_free);
    return {wanted, static_cast<int>(std::lround(std::ldexp(part, kNegativeBits)))};
}

// The random bits at a place of a row's stream. Those of word w and digit d of the chance come first, at
// w * kNegativeBits + d, then those of the changes.
PYREC_INLINE std::uint64_t negative_bits(std::uint64_t stream, std::uint64_t place) {
    return mix(stream + place * 0x9E3779B97F4A7C15ull);
}

// A word whose bits are 1 with chance c, and a binary digit d of all ones or zeros before it: the chance
// becomes (c + d) / 2.
PYREC_INLINE std::uint64_t with_digit(std::uint64_t word, std::uint64_t random, std::uint64_t digit) {
    return ((word | random) & digit) | (word & random & ~digit);
}

// out[b, j] = 1 for round(share * n) of the n items that row b does not hold, drawn without replacement,
// each set of them as likely as any other; 0 for the others; for the items of the row
// `with_observed`. The draw depends on seed, step and b only.
//
// x is a pattern: its values are not read.
void negatives(const Csr& x, double share, std::uint64_t seed, std::uint64_t step, bool with_observed,
               Matrix<bool> out, int n_threads);

}  // namespace pyrec
