#include "core/negatives.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 4;
constexpr int kBits = kNegativeBits;

using Words = std::vector<std::uint64_t>;

// Each bit of `words` is 1 with a chance of chance / 2^kBits, where `free` is: random words, joined by
// OR and AND as the binary digits of the chance say. Returns how many bits are 1.
PYREC_CLONES std::int64_t draw_bits(std::uint64_t stream, int chance, const std::uint64_t* free,
                                    std::int64_t n_words, std::uint64_t* words) {
    for (std::int64_t w = 0; w < n_words; ++w) words[w] = 0;
    for (int digit = 0; digit < kBits; ++digit) {
        const std::uint64_t one = (chance >> digit & 1) != 0 ? ~std::uint64_t{0} : 0;
        if (chance >> digit << digit == chance && one == 0) continue;  // still nothing but zeros
#pragma omp simd
        for (std::int64_t w = 0; w < n_words; ++w) {
            const auto place = static_cast<std::uint64_t>(w * kBits + digit);
            words[w] = with_digit(words[w], negative_bits(stream, place), one);
        }
    }
    std::int64_t total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t w = 0; w < n_words; ++w) {
        words[w] &= free[w];
        total += __builtin_popcountll(words[w]);
    }
    return total;
}

// A byte a bit.
PYREC_CLONES void write_bytes(const std::uint64_t* words, std::int64_t n, std::uint8_t* out) {
    std::int64_t j = 0;
    for (; j + 64 <= n; j += 64)
        for (std::int64_t i = 0; i < 64; ++i) out[j + i] = words[j / 64] >> i & 1;
    for (; j < n; ++j) out[j] = words[j / 64] >> j % 64 & 1;
}

// One row at a time, in memory that serves them all.
class Row {
  public:
    explicit Row(std::int64_t n_items)
        : n_items_(n_items), free_(static_cast<std::size_t>((n_items + 63) / 64)), drawn_(free_.size()) {}

    void read(const std::int32_t* items, std::int64_t n) {
        std::fill(free_.begin(), free_.end(), ~std::uint64_t{0});
        if (n_items_ % 64 != 0) free_.back() = (std::uint64_t{1} << n_items_ % 64) - 1;
        for (std::int64_t q = 0; q < n; ++q)
            free_[static_cast<std::size_t>(items[q] / 64)] &= ~(std::uint64_t{1} << items[q] % 64);
        n_free_ = n_items_ - n;
    }

    // Independent draws whose number is nearly right, then as many changes as are missing: a set of
    // independent draws is, given its size, as likely as any other of that size, and stays it when
    // random ones are added or taken away.
    void draw(double share, std::uint64_t stream) {
        const auto [wanted, chance] = negative_counts(share, n_free_);
        const auto n_words = static_cast<std::int64_t>(free_.size());
        if (chance >= 1 << kBits) {
            drawn_ = free_;
            change(n_free_ - wanted, n_free_, true, stream);
            return;
        }
        const std::int64_t got = draw_bits(stream, chance, free_.data(), n_words, drawn_.data());
        if (got > wanted) change(got - wanted, got, true, stream);
        else change(wanted - got, n_free_ - got, false, stream);
    }

    void write(bool with_observed, bool* out) {
        if (with_observed)
            for (std::size_t w = 0; w < drawn_.size(); ++w) drawn_[w] |= ~free_[w];
        write_bytes(drawn_.data(), n_items_, reinterpret_cast<std::uint8_t*>(out));
    }

  private:
    // Turns `n` random ones of the `pool` free bits whose value is `from`.
    void change(std::int64_t n, std::int64_t pool, bool from, std::uint64_t stream) {
        std::uint64_t next = free_.size() * kBits;  // the places before are those of draw_bits
        if (pool * kNegativeSparse < n_items_) {
            list(from);
            for (std::int64_t i = 0; i < n; ++i) {
                const auto other = static_cast<std::int64_t>(random(stream, next++, pool - i));
                std::swap(listed_[static_cast<std::size_t>(i)], listed_[static_cast<std::size_t>(i + other)]);
                turn(listed_[static_cast<std::size_t>(i)]);
            }
            return;
        }
        while (n > 0) {
            // A guess or a few: the pool is large, and little of it is turned.
            const auto item = static_cast<std::int64_t>(random(stream, next++, n_items_));
            const auto w = static_cast<std::size_t>(item / 64);
            const std::uint64_t pooled = from ? drawn_[w] : free_[w] & ~drawn_[w];
            if ((pooled >> item % 64 & 1) == 0) continue;
            turn(item);
            --n;
        }
    }

    void list(bool from) {
        listed_.clear();
        for (std::size_t w = 0; w < free_.size(); ++w)
            for (std::uint64_t left = from ? drawn_[w] : free_[w] & ~drawn_[w]; left != 0; left &= left - 1)
                listed_.push_back(static_cast<std::int64_t>(64 * w) + __builtin_ctzll(left));
    }

    void turn(std::int64_t item) {
        drawn_[static_cast<std::size_t>(item / 64)] ^= std::uint64_t{1} << item % 64;
    }

    static std::uint64_t random(std::uint64_t stream, std::uint64_t place, std::int64_t n) {
        return below(negative_bits(stream, place), static_cast<std::uint64_t>(n));
    }

    std::int64_t n_items_, n_free_ = 0;
    Words free_, drawn_;
    std::vector<std::int64_t> listed_;
};

}  // namespace

void negatives(const Csr& x, double share, std::uint64_t seed, std::uint64_t step, bool with_observed,
               Matrix<bool> out, int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        Row row(x.cols);
        for (std::int64_t b = begin; b < end; ++b) {
            row.read(x.indices + x.indptr[b], x.indptr[b + 1] - x.indptr[b]);
            row.draw(share, pyrec::draw(seed, step, static_cast<std::uint64_t>(b)));
            row.write(with_observed, out.row(b));
        }
    });
}

}  // namespace pyrec
