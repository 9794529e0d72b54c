#include "core/hits.h"

#include <limits>

#include "core/keys.h"

namespace pyrec {
namespace {

// Hits of one user.
struct List {
    float* scores;
    std::int32_t* items;
    std::int64_t size;

    // Written every time and moved on from only if wanted: what is kept can not be foreseen.
    template <class Wanted> void keep(Wanted wanted) {
        std::int64_t kept = 0;
        for (std::int64_t i = 0; i < size; ++i) {
            const float score = scores[i];
            const std::int32_t item = items[i];
            scores[kept] = score;
            items[kept] = item;
            kept += wanted(score, item);
        }
        size = kept;
    }

    void keys(std::vector<std::uint64_t>& out) const {
        out.resize(static_cast<std::size_t>(size));
        for (std::int64_t i = 0; i < size; ++i)
            out[static_cast<std::size_t>(i)] = key_of(scores[i], items[i]);
    }
};

}  // namespace

Hits::Hits(std::int64_t users, std::int64_t n_best)
    : k(n_best),
      room(room_of(n_best)),
      scores(new float[static_cast<std::size_t>(users * capacity())]),
      items(new std::int32_t[static_cast<std::size_t>(users * capacity())]),
      least(new float[static_cast<std::size_t>(users)]),
      limits(new std::int32_t[static_cast<std::size_t>(users)]),
      counts(new std::int32_t[static_cast<std::size_t>(users)]) {}

void Hits::clear(std::int64_t users) {
    std::fill_n(least.get(), users, std::numeric_limits<float>::lowest());  // -inf is no hit
    std::fill_n(limits.get(), users, std::numeric_limits<std::int32_t>::max());
    std::fill_n(counts.get(), users, 0);
}

Pruner::Pruner(Hits& hits, const ItemLists& seen, const ItemLists& deny, std::int64_t first,
               std::int64_t n_items)
    : hits_(hits),
      seen_(seen),
      deny_(deny),
      first_(first),
      excluded_(n_items),
      space_(static_cast<std::size_t>(hits.capacity())),
      sorted_(static_cast<std::size_t>(hits.k)) {}

void Pruner::prune(std::int64_t u) {
    const std::int64_t begin = u * hits_.capacity();
    List list{hits_.scores.get() + begin, hits_.items.get() + begin, hits_.counts[u]};
    excluded_.add(seen_, first_ + u);
    excluded_.add(deny_, first_ + u);
    list.keep([&](float, std::int32_t item) { return !excluded_.has(item); });
    excluded_.remove(seen_, first_ + u);
    excluded_.remove(deny_, first_ + u);
    if (list.size >= hits_.k) {
        const float least = kth_largest(list.scores, list.size, hits_.k, space_.data());
        list.keep([&](float score, std::int32_t) { return score >= least; });
        if (list.size > hits_.k) {  // ties
            list.keys(keys_);
            std::nth_element(keys_.begin(), keys_.begin() + (hits_.k - 1), keys_.end());
            const std::uint64_t last = keys_[static_cast<std::size_t>(hits_.k - 1)];
            list.keep([&](float score, std::int32_t item) { return key_of(score, item) <= last; });
        }
        hits_.least[u] = least;
        hits_.limits[u] = 0;
        for (std::int64_t i = 0; i < list.size; ++i)
            if (list.scores[i] == least) hits_.limits[u] = std::max(hits_.limits[u], list.items[i]);
    }
    hits_.counts[u] = static_cast<std::int32_t>(list.size);
}

void Pruner::write(std::int64_t u, std::int64_t k, std::int32_t* items, float* best) {
    prune(u);
    const std::int64_t begin = u * hits_.capacity(), found = hits_.counts[u];
    List{hits_.scores.get() + begin, hits_.items.get() + begin, found}.keys(keys_);
    sort_keys(keys_, found, sorted_.data(), {nullptr, nullptr});
    write_sorted(sorted_.data(), found, k, items, best);
}

}  // namespace pyrec
