#pragma once
#include "core/random.h"
#include "core/view.h"

namespace pyrec {

// A permutation of 0..n-1 that seed and epoch decide, one place at a time: nothing is kept of it.
//
// A Feistel network is a bijection of the numbers of a few bits (Luby & Rackoff 1988); what leaves the
// range goes through it again until it comes back (Black & Rogaway 2002): twice at most in the mean, but
// for the smallest ranges.
class Permutation {
  public:
    PYREC_INLINE Permutation(std::int64_t n, std::uint64_t seed, std::uint64_t epoch)
        : n_(static_cast<std::uint64_t>(n)) {
        int bits = kLeastBits;
        while (bits < 63 && (std::uint64_t{1} << bits) < n_) ++bits;
        low_bits_ = bits / 2;
        low_ = (std::uint64_t{1} << low_bits_) - 1;
        high_ = (std::uint64_t{1} << (bits - low_bits_)) - 1;
        for (std::uint64_t k = 0; k < kRounds; ++k) keys_[k] = draw(seed, epoch, k);
    }

    PYREC_INLINE std::int64_t operator()(std::int64_t place) const {
        auto i = static_cast<std::uint64_t>(place);
        do {
            std::uint64_t high = i >> low_bits_, low = i & low_;
            for (int k = 0; k < kRounds; k += 2) {
                high ^= mix(low ^ keys_[k]) & high_;
                low ^= mix(high ^ keys_[k + 1]) & low_;
            }
            i = high << low_bits_ | low;
        } while (i >= n_);
        return static_cast<std::int64_t>(i);
    }

  private:
    static constexpr int kRounds = 8;
    // With halves of one bit each some orders would be more likely than others.
    static constexpr int kLeastBits = 8;
    std::uint64_t n_, low_, high_, keys_[kRounds];
    int low_bits_;
};

// out[i] = the place first + i of the permutation of 0..n-1.
void permuted(std::int64_t n, std::uint64_t seed, std::uint64_t epoch, std::int64_t first,
              Vector<std::int64_t> out, int n_threads);

}  // namespace pyrec
