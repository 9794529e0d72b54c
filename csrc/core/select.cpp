#include "core/select.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/isa.h"

namespace pyrec {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kBlock = 64;
// Up to here counting the smaller keys of each key (no branches) beats sorting.
constexpr std::int64_t kCountingSort = 256;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();

using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));

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

// Maxima of one full block. A NaN is never larger, so it never becomes a maximum.
PYREC_INLINE float block_maxima(const float* scores, float* lanes) {
    const Floats* const x = reinterpret_cast<const Floats*>(scores);
    Floats top = Floats{} + kExcluded;
    for (std::int64_t z = 0; z < kBlock / kLanes; ++z) top = x[z] > top ? x[z] : top;
    std::memcpy(lanes, &top, sizeof top);
    float half[8], quarter[4];
    for (int z = 0; z < 8; ++z) half[z] = lanes[z + 8] > lanes[z] ? lanes[z + 8] : lanes[z];
    for (int z = 0; z < 4; ++z) quarter[z] = half[z + 4] > half[z] ? half[z + 4] : half[z];
    return std::max(std::max(quarter[0], quarter[1]), std::max(quarter[2], quarter[3]));
}

PYREC_CLONES void row_maxima(const float* scores, std::int64_t n_blocks, float* lanes, float* blocks) {
    for (std::int64_t b = 0; b < n_blocks; ++b)
        blocks[b] = block_maxima(scores + b * kBlock, lanes + b * kLanes);
}

// The k-th largest of n values, found bit by bit: no branch depends on the data.
PYREC_CLONES std::int32_t kth_largest(const std::int32_t* x, std::int64_t n, std::int64_t k) {
    std::int64_t low = std::numeric_limits<std::int32_t>::min();
    for (int bit = 31; bit >= 0; --bit) {
        const std::int64_t middle = low + (std::int64_t(1) << bit);
        const auto threshold = static_cast<std::int32_t>(middle);
        std::int32_t reach = 0;
#pragma omp simd reduction(+ : reach)
        for (std::int64_t i = 0; i < n; ++i) reach += x[i] >= threshold;
        if (reach >= k) low = middle;
    }
    return static_cast<std::int32_t>(low);
}

// sorted[number of smaller keys] = key: keys are distinct, because items are.
PYREC_CLONES void counting_sort(const std::uint64_t* keys, std::int64_t n, std::int64_t k,
                                std::uint64_t* sorted) {
    for (std::int64_t i = 0; i < n; ++i) {
        const auto key = static_cast<std::int64_t>(keys[i] ^ (std::uint64_t(1) << 63));
        std::int64_t place = 0;
#pragma omp simd reduction(+ : place)
        for (std::int64_t j = 0; j < n; ++j)
            place += static_cast<std::int64_t>(keys[j] ^ (std::uint64_t(1) << 63)) < key;
        if (place < k) sorted[place] = keys[i];
    }
}

}  // namespace

Selector::Selector(std::int64_t n_items, std::int64_t k)
    : n_items_(n_items),
      k_(k),
      n_blocks_((n_items + kBlock - 1) / kBlock),
      excluded_(static_cast<std::size_t>(n_blocks_), 0),
      lanes_(static_cast<std::size_t>(n_blocks_ * kLanes)),
      blocks_(static_cast<std::size_t>(n_blocks_)),
      ordered_(static_cast<std::size_t>(n_blocks_ * kLanes)),
      keys_(static_cast<std::size_t>(n_items)),
      sorted_(static_cast<std::size_t>(std::min(k, n_items))) {}

void Selector::select(const float* scores, const Candidates& candidates, std::int64_t row,
                      std::int32_t* items, float* best) {
    n_keys_ = 0;
    if (candidates.allow.present) {
        // Few items are the rule here: they are looked up, the row is not read.
        for (const ItemLists* lists : {&candidates.seen, &candidates.deny})
            if (lists->present)
                for (auto j = lists->begin(row); j < lists->end(row); ++j)
                    excluded_[static_cast<std::size_t>(*j / 64)] |= std::uint64_t(1) << (*j % 64);
        collect_allowed(scores, candidates.allow, row);
    } else {
        const std::int64_t full = n_items_ / kBlock;
        row_maxima(scores, full, lanes_.data(), blocks_.data());
        if (full < n_blocks_) {
            float tail[kBlock];
            std::fill(tail, tail + kBlock, kExcluded);
            std::copy(scores + full * kBlock, scores + n_items_, tail);
            row_maxima(tail, 1, lanes_.data() + full * kLanes, blocks_.data() + full);
        }
        exclude(scores, candidates.seen, row);
        exclude(scores, candidates.deny, row);
        collect(scores);
    }
    readmit(candidates.seen, row);
    readmit(candidates.deny, row);
    write(scores, items, best);
}

// Marks the items and takes them out of the maxima of their blocks.
void Selector::exclude(const float* scores, const ItemLists& lists, std::int64_t row) {
    if (!lists.present) return;
    const std::int32_t* j = lists.begin(row);
    const std::int32_t* const end = lists.end(row);
    while (j < end) {
        const std::int64_t block = *j / kBlock;
        std::uint64_t& bits = excluded_[static_cast<std::size_t>(block)];
        for (; j < end && *j / kBlock == block; ++j) bits |= std::uint64_t(1) << (*j % kBlock);
        float masked[kBlock];
        const std::int64_t size = std::min(kBlock, n_items_ - block * kBlock);
        std::fill(masked, masked + kBlock, kExcluded);
        std::copy(scores + block * kBlock, scores + block * kBlock + size, masked);
        for (std::uint64_t left = bits; left != 0; left &= left - 1) masked[__builtin_ctzll(left)] = kExcluded;
        row_maxima(masked, 1, lanes_.data() + block * kLanes, blocks_.data() + block);
    }
}

void Selector::readmit(const ItemLists& lists, std::int64_t row) {
    if (!lists.present) return;
    for (auto j = lists.begin(row); j < lists.end(row); ++j)
        excluded_[static_cast<std::size_t>(*j / kBlock)] = 0;
}

void Selector::collect_allowed(const float* scores, const ItemLists& allow, std::int64_t row) {
    for (auto j = allow.begin(row); j < allow.end(row); ++j) {
        const bool out = excluded_[static_cast<std::size_t>(*j / kBlock)] >> (*j % kBlock) & 1;
        if (!out && scores[*j] > kExcluded)
            keys_[static_cast<std::size_t>(n_keys_++)] = key_of(scores[*j], *j);
    }
}

// A score that at least k candidates reach: the k-th largest of the blocks' maxima, or of the
// lanes' where the blocks are too few.
float Selector::bound() {
    for (const std::vector<float>* maxima : {&blocks_, &lanes_}) {
        const auto n = static_cast<std::int64_t>(maxima->size());
        if (n < k_) continue;
        std::transform(maxima->begin(), maxima->end(), ordered_.begin(), ordered_bits);
        return from_ordered_bits(kth_largest(ordered_.data(), n, k_));
    }
    return kExcluded;
}

void Selector::collect(const float* scores) {
    const float least = bound();
    for (std::int64_t b = 0; b < n_blocks_; ++b) {
        if (!(blocks_[static_cast<std::size_t>(b)] >= least) ||
            blocks_[static_cast<std::size_t>(b)] == kExcluded)
            continue;
        const std::uint64_t out = excluded_[static_cast<std::size_t>(b)];
        const std::int64_t size = std::min(kBlock, n_items_ - b * kBlock);
        for (std::int64_t l = 0; l < kLanes; ++l) {
            if (!(lanes_[static_cast<std::size_t>(b * kLanes + l)] >= least)) continue;
            for (std::int64_t i = l; i < size; i += kLanes) {
                const float score = scores[b * kBlock + i];
                if (score >= least && score > kExcluded && !(out >> i & 1))
                    keys_[static_cast<std::size_t>(n_keys_++)] = key_of(score, b * kBlock + i);
            }
        }
    }
}

void Selector::write(const float* scores, std::int32_t* items, float* best) {
    const std::int64_t found = std::min(k_, n_keys_);
    if (n_keys_ <= kCountingSort) {
        counting_sort(keys_.data(), n_keys_, found, sorted_.data());
    } else {
        if (n_keys_ > found) std::nth_element(keys_.begin(), keys_.begin() + found, keys_.begin() + n_keys_);
        std::sort(keys_.begin(), keys_.begin() + found);
        std::copy(keys_.begin(), keys_.begin() + found, sorted_.begin());
    }
    for (std::int64_t i = 0; i < found; ++i) {
        items[i] = static_cast<std::int32_t>(sorted_[static_cast<std::size_t>(i)] & 0xffffffffu);
        best[i] = scores[items[i]];
    }
    std::fill(items + found, items + k_, -1);
    std::fill(best + found, best + k_, kExcluded);
}

}  // namespace pyrec
