#pragma once
#include <cstdint>
#include <limits>

#include "core/isa.h"

namespace pyrec {

enum class Metric { ndcg, recall, full_recall, hit, mrr, map, precision };

struct Measure {
    Metric metric;
    std::int64_t k;
};

// What a row with nothing relevant is worth.
constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// The value of a list with these hits: their ranks (from 0), ascending, n_hits of them. discounts[i] is
// that of rank i + 1, discount_sums[i] that of the first i ranks together.
template <class Rank> PYREC_INLINE double value_of(const Measure& m, const Rank* hits, std::int64_t n_hits,
                                                   std::int64_t n_relevant, const double* discounts,
                                                   const double* discount_sums) {
    std::int64_t n = 0;  // of them within the first k ranks
    for (std::int64_t beyond = n_hits; n < beyond;) {
        const std::int64_t middle = (n + beyond) / 2;
        if (hits[middle] < m.k) n = middle + 1;
        else beyond = middle;
    }
    const std::int64_t reachable = m.k < n_relevant ? m.k : n_relevant;
    const auto found = static_cast<double>(n);
    double sum = 0.0;
    switch (m.metric) {
        case Metric::ndcg:
            for (std::int64_t h = 0; h < n; ++h) sum += discounts[hits[h]];
            return sum / discount_sums[reachable];
        case Metric::recall: return found / static_cast<double>(reachable);
        case Metric::full_recall: return found / static_cast<double>(n_relevant);
        case Metric::hit: return n > 0 ? 1.0 : 0.0;
        case Metric::mrr: return n > 0 ? 1.0 / static_cast<double>(hits[0] + 1) : 0.0;
        case Metric::map:
            for (std::int64_t h = 0; h < n; ++h)
                sum += static_cast<double>(h + 1) / static_cast<double>(hits[h] + 1);
            return sum / static_cast<double>(reachable);
        case Metric::precision: return found / static_cast<double>(m.k);
    }
    return kUndefined;
}

}  // namespace pyrec
