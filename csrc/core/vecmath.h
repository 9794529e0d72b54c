#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/isa.h"

namespace pyrec {

// bfloat16: the upper half of a float.
struct Bf16 {
    std::uint16_t bits;
};

PYREC_INLINE float widen(float x) { return x; }
PYREC_INLINE double widen(double x) { return x; }
PYREC_INLINE float widen(Bf16 x) {
    const std::uint32_t u = static_cast<std::uint32_t>(x.bits) << 16;
    float y;
    std::memcpy(&y, &u, sizeof y);
    return y;
}

PYREC_INLINE void narrow(float x, float& y) { y = x; }
PYREC_INLINE void narrow(double x, double& y) { y = x; }
PYREC_INLINE std::uint32_t nearest(float x) {  // the bits of the nearest Bf16, ties to even
    std::uint32_t u;
    std::memcpy(&u, &x, sizeof u);
    const std::uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
    // A NaN whose bits would be carried away stays one.
    return (u & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0u : rounded;
}
PYREC_INLINE void narrow(float x, Bf16& y) { y.bits = static_cast<std::uint16_t>(nearest(x)); }

// e^x for x <= 0: relative error below 3e-7 + 8e-8 |x|, 0 below -87 (no denormals), NaN for NaN.
// Without branches, so that loops over it become vector code. x log2(e) = n + f with |f| <= 1/2;
// adding 1.5 * 2^23 rounds to n and leaves it in the low bits; 2^f by a polynomial.
PYREC_INLINE float exp_negative(float x) {
    constexpr float magic = 12582912.0f, log2e = 1.44269504f;
    const float shifted = x * log2e + magic;
    const float f = x * log2e - (shifted - magic);
    float p = 1.32647272e-3f;
    p = p * f + 9.67151269e-3f;
    p = p * f + 5.55073374e-2f;
    p = p * f + 2.40222421e-1f;
    p = p * f + 6.93146978e-1f;
    p = p * f + 1.0f;
    std::int32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<std::int32_t>((static_cast<std::uint32_t>(bits) + 127u) << 23);
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : p * power;
}

// The exponential of the likelihood.
PYREC_INLINE float exponential(float x) { return exp_negative(x); }
PYREC_INLINE double exponential(double x) { return std::exp(x); }

}  // namespace pyrec
