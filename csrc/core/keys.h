#pragma once
#include <cstdint>
#include <cstring>

#include "core/isa.h"

namespace pyrec {

PYREC_INLINE std::int32_t ordered_bits(float x) {
    std::int32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

PYREC_INLINE float from_ordered_bits(std::int32_t bits) {
    bits ^= (bits >> 31) & 0x7fffffff;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// Ascending keys are descending scores, then ascending items. Adding 0 makes -0 and 0 tie.
PYREC_INLINE std::uint64_t key_of(float score, std::int64_t item) {
    const std::uint32_t rank = static_cast<std::uint32_t>(ordered_bits(score + 0.0f)) ^ 0x80000000u;
    return static_cast<std::uint64_t>(~rank) << 32 | static_cast<std::uint32_t>(item);
}

PYREC_INLINE std::int32_t item_of(std::uint64_t key) { return static_cast<std::int32_t>(key & 0xffffffffu); }

// But for the sign of a zero.
PYREC_INLINE float score_of(std::uint64_t key) {
    return from_ordered_bits(static_cast<std::int32_t>(~static_cast<std::uint32_t>(key >> 32) ^ 0x80000000u));
}

}  // namespace pyrec
