#pragma once
#include <cstdint>

#include "core/isa.h"

namespace pyrec {

// The finaliser of splitmix64 (Steele et al. 2014): every input bit reaches every output bit.
PYREC_INLINE std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// 64 random bits that depend on where they are drawn, never on when or by which thread.
PYREC_INLINE std::uint64_t draw(std::uint64_t seed, std::uint64_t epoch, std::uint64_t index) {
    constexpr std::uint64_t golden = 0x9E3779B97F4A7C15ull;
    return mix(mix(mix(seed + golden) + epoch * golden) + index * golden);
}

// A number in 0..n-1 of 64 random bits (Lemire 2019); n / 2^64 is its bias.
PYREC_INLINE std::uint64_t below(std::uint64_t bits, std::uint64_t n) {
    // In two halves, which every compiler knows; n is below 2^63.
    const std::uint64_t low = (bits & 0xFFFFFFFFull) * (n & 0xFFFFFFFFull) >> 32;
    const std::uint64_t middle = (bits >> 32) * (n & 0xFFFFFFFFull);
    const std::uint64_t other = (bits & 0xFFFFFFFFull) * (n >> 32);
    const std::uint64_t carry = (low + (middle & 0xFFFFFFFFull) + (other & 0xFFFFFFFFull)) >> 32;
    return (bits >> 32) * (n >> 32) + (middle >> 32) + (other >> 32) + carry;
}

}  // namespace pyrec
