#include "core/select.h"

#include <algorithm>
#include <limits>

#include "core/isa.h"
#include "core/keys.h"

namespace pyrec {
namespace {

constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kBlock = 64;
// Up to here counting the smaller keys of each key (no branches) beats sorting.
constexpr std::int64_t kCountingSort = 256;
constexpr float kExcluded = -std::numeric_limits<float>::infinity();

using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));

// A NaN is never larger, so it never becomes a maximum.
PYREC_INLINE Floats larger(Floats x, Floats y) { return x > y ? x : y; }

PYREC_CLONES void lane_maxima(const float* scores, std::int64_t n_blocks, float* lanes) {
    for (std::int64_t b = 0; b < n_blocks; ++b) {
        const Floats* const x = reinterpret_cast<const Floats*>(scores + b * kBlock);
        const Floats none = Floats{} + kExcluded;
        Floats top = larger(larger(x[0], none), larger(x[1], none));
        top = larger(x[3], larger(x[2], top));
        *reinterpret_cast<Floats*>(lanes + b * kLanes) = top;
    }
}

PYREC_CLONES void set_maxima(const float* lanes, std::int64_t n_blocks, std::int64_t width, float* sets) {
    for (std::int64_t b = 0; b < n_blocks; b += width, sets += kLanes) {
        Floats top = Floats{} + kExcluded;
        for (std::int64_t i = b; i < std::min(b + width, n_blocks); ++i)
            top = larger(*reinterpret_cast<const Floats*>(lanes + i * kLanes), top);
        *reinterpret_cast<Floats*>(sets) = top;
    }
}

// The items whose score reaches `least`, by way of the sets and then the lanes that do. Each step
// writes every place and moves on only past a hit: hits are rare and unforeseeable, a branch on
// each would be mispredicted. Returns how many there are.
PYREC_CLONES std::int64_t reaching_items(const float* scores, const float* lanes, const float* sets,
                                         const Shape& shape, float least, std::int32_t* visited,
                                         std::int32_t* items, Ahead& ahead) {
    std::int64_t n_sets = 0, n_lanes = 0, n_items = 0;
    for (std::int64_t s = 0; s < shape.n_groups * kLanes; ++s) {
        visited[n_sets] = static_cast<std::int32_t>(s);
        n_sets += sets[s] >= least;
    }
    std::int32_t* const reached = visited + n_sets;
    for (std::int64_t v = 0; v < n_sets; ++v) {
        const std::int64_t lane = visited[v] % kLanes, first = visited[v] / kLanes * shape.width;
        const std::int64_t last = std::min(first + shape.width, shape.n_blocks);
        ahead.fetch(4);
        for (std::int64_t b = first; b < last; ++b) {
            reached[n_lanes] = static_cast<std::int32_t>(b * kLanes + lane);
            n_lanes += lanes[b * kLanes + lane] >= least;
        }
    }
    for (std::int64_t v = 0; v < n_lanes; ++v) {
        const std::int64_t first = reached[v] / kLanes * kBlock + reached[v] % kLanes;
        const std::int64_t last = std::min(first + kBlock, shape.n_items);
        ahead.fetch(3);
        for (std::int64_t j = first; j < last; j += kLanes) {
            items[n_items] = static_cast<std::int32_t>(j);
            n_items += scores[j] >= least;
        }
    }
    return n_items;
}

// sorted[number of smaller keys] = key: keys are distinct, because items are. n is a multiple of 4.
PYREC_CLONES void counting_sort(std::uint64_t* keys, std::int64_t n, std::int64_t k, std::uint64_t* sorted,
                                Ahead& ahead) {
    constexpr std::uint64_t sign = std::uint64_t(1) << 63;  // signed comparisons are the vector ones
    std::int64_t* const x = reinterpret_cast<std::int64_t*>(keys);
    for (std::int64_t i = 0; i < n; ++i) keys[i] ^= sign;
    for (std::int64_t i = 0; i < n; i += 4) {
        std::int64_t p = 0, q = 0, r = 0, s = 0;
        ahead.fetch(12);
#pragma omp simd reduction(+ : p, q, r, s)
        for (std::int64_t j = 0; j < n; ++j) {
            p += x[j] < x[i];
            q += x[j] < x[i + 1];
            r += x[j] < x[i + 2];
            s += x[j] < x[i + 3];
        }
        const std::int64_t places[] = {p, q, r, s};
        for (int z = 0; z < 4; ++z)
            if (places[z] < k) sorted[places[z]] = keys[i + z] ^ sign;
    }
}

}  // namespace

// Found bit by bit: no branch depends on the data.
PYREC_CLONES float kth_largest(const float* values, std::int64_t n, std::int64_t k, std::int32_t* x) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) x[i] = ordered_bits(values[i]);
    std::int64_t low = std::numeric_limits<std::int32_t>::min();
    for (int bit = 31; bit >= 0; --bit) {
        const std::int64_t middle = low + (std::int64_t(1) << bit);
        const auto threshold = static_cast<std::int32_t>(middle);
        std::int32_t reach = 0;
#pragma omp simd reduction(+ : reach)
        for (std::int64_t i = 0; i < n; ++i) reach += x[i] >= threshold;
        if (reach >= k) low = middle;
    }
    return from_ordered_bits(static_cast<std::int32_t>(low));
}

void sort_keys(std::vector<std::uint64_t>& keys, std::int64_t found, std::uint64_t* sorted, Ahead ahead) {
    const auto n = static_cast<std::int64_t>(keys.size());
    if (n <= kCountingSort) {
        keys.resize(static_cast<std::size_t>((n + 3) / 4 * 4), ~std::uint64_t(0));
        counting_sort(keys.data(), static_cast<std::int64_t>(keys.size()), found, sorted, ahead);
    } else {
        if (n > found) std::nth_element(keys.begin(), keys.begin() + found, keys.end());
        std::sort(keys.begin(), keys.begin() + found);
        std::copy(keys.begin(), keys.begin() + found, sorted);
    }
}

void write_sorted(const std::uint64_t* sorted, std::int64_t found, std::int64_t k, std::int32_t* items,
                  float* best) {
    for (std::int64_t i = 0; i < found; ++i) {
        items[i] = item_of(sorted[i]);
        best[i] = score_of(sorted[i]);
    }
    std::fill(items + found, items + k, -1);
    std::fill(best + found, best + k, kExcluded);
}

Selector::Selector(std::int64_t n_items, std::int64_t k) : k_(k), excluded_(n_items) {
    shape_ = {n_items, (n_items + kBlock - 1) / kBlock, 0, 16};
    // Twice as many sets as items are wanted, or the bound that their maxima give is a weak one.
    while (shape_.width > 1 && (shape_.n_blocks / shape_.width) * kLanes < 2 * k) shape_.width /= 4;
    shape_.n_groups = (shape_.n_blocks + shape_.width - 1) / shape_.width;
    lanes_.resize(static_cast<std::size_t>(shape_.n_blocks * kLanes));
    sets_.resize(static_cast<std::size_t>(shape_.n_groups * kLanes));
    visited_.resize(sets_.size() + lanes_.size() + 2);
    reached_.resize(static_cast<std::size_t>(n_items) + 1);
    sorted_.resize(static_cast<std::size_t>(std::min(k, n_items)));
}

void Selector::select(const float* scores, const Candidates& candidates, std::int64_t row,
                      const float* next_scores, std::int32_t* items, float* best) {
    keys_.clear();
    ahead_ = {reinterpret_cast<const char*>(next_scores),
              reinterpret_cast<const char*>(next_scores ? next_scores + shape_.n_items : nullptr)};
    excluded_.add(candidates.seen, row);
    excluded_.add(candidates.deny, row);
    if (candidates.allow.present) {
        collect_allowed(scores, candidates.allow, row);
    } else {
        const std::int64_t full = shape_.n_items / kBlock;
        lane_maxima(scores, full, lanes_.data());
        if (full < shape_.n_blocks) {
            float tail[kBlock];
            std::fill(tail, tail + kBlock, kExcluded);
            std::copy(scores + full * kBlock, scores + shape_.n_items, tail);
            lane_maxima(tail, 1, lanes_.data() + full * kLanes);
        }
        lower_lanes(scores, candidates.seen, row);
        lower_lanes(scores, candidates.deny, row);
        collect(scores);
    }
    excluded_.remove(candidates.seen, row);
    excluded_.remove(candidates.deny, row);
    write(items, best);
}

// The lanes of the listed items once more, without what is marked.
void Selector::lower_lanes(const float* scores, const ItemLists& lists, std::int64_t row) {
    if (!lists.present) return;
    for (auto j = lists.begin(row); j < lists.end(row); ++j) {
        const std::int64_t block = *j / kBlock, lane = *j % kLanes;
        const std::uint64_t out = excluded_.word(block);
        const std::int64_t size = std::min(kBlock, shape_.n_items - block * kBlock);
        float top = kExcluded;
        for (std::int64_t i = lane; i < size; i += kLanes) {
            const float score = scores[block * kBlock + i];
            top = !(out >> i & 1) && score > top ? score : top;
        }
        lanes_[static_cast<std::size_t>(block * kLanes + lane)] = top;
    }
}

void Selector::push(float score, std::int64_t item) {
    if (score > kExcluded && !excluded_.has(item)) keys_.push_back(key_of(score, item));
}

// Few items are the rule here: they are looked up, the row is not read.
void Selector::collect_allowed(const float* scores, const ItemLists& allow, std::int64_t row) {
    for (auto j = allow.begin(row); j < allow.end(row); ++j) push(scores[*j], *j);
}

void Selector::collect(const float* scores) {
    set_maxima(lanes_.data(), shape_.n_blocks, shape_.width, sets_.data());
    const auto n_sets = static_cast<std::int64_t>(sets_.size());
    const float least = n_sets < k_ ? kExcluded : kth_largest(sets_.data(), n_sets, k_, visited_.data());
    const std::int64_t n = reaching_items(scores, lanes_.data(), sets_.data(), shape_, least, visited_.data(),
                                          reached_.data(), ahead_);
    for (std::int64_t i = 0; i < n; ++i)
        push(scores[reached_[static_cast<std::size_t>(i)]], reached_[static_cast<std::size_t>(i)]);
}

void Selector::write(std::int32_t* items, float* best) {
    const std::int64_t found = std::min(k_, static_cast<std::int64_t>(keys_.size()));
    sort_keys(keys_, found, sorted_.data(), ahead_);
    write_sorted(sorted_.data(), found, k_, items, best);
}

}  // namespace pyrec
