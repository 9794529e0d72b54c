#include "core/ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 256;

struct Discounts {
    std::vector<double> at, sum;  // of rank i + 1; of the first i ranks

    explicit Discounts(std::int64_t k)
        : at(static_cast<std::size_t>(k)), sum(static_cast<std::size_t>(k) + 1, 0.0) {
        for (std::size_t i = 0; i < at.size(); ++i) {
            at[i] = 1.0 / std::log2(static_cast<double>(i) + 2.0);
            sum[i + 1] = sum[i] + at[i];
        }
    }
};

// `hits` holds the ranks (from 0) of a row's hits, ascending.
double value_of(const Measure& m, const std::vector<std::int64_t>& hits, std::int64_t n_relevant,
                const Discounts& discounts) {
    const auto end = std::lower_bound(hits.begin(), hits.end(), m.k);
    const auto n_hits = static_cast<double>(end - hits.begin());
    const std::int64_t reachable = std::min(m.k, n_relevant);
    double sum = 0.0;
    switch (m.metric) {
        case Metric::ndcg:
            for (auto h = hits.begin(); h < end; ++h) sum += discounts.at[static_cast<std::size_t>(*h)];
            return sum / discounts.sum[static_cast<std::size_t>(reachable)];
        case Metric::recall: return n_hits / static_cast<double>(reachable);
        case Metric::full_recall: return n_hits / static_cast<double>(n_relevant);
        case Metric::hit: return n_hits > 0 ? 1.0 : 0.0;
        case Metric::mrr: return n_hits > 0 ? 1.0 / static_cast<double>(hits.front() + 1) : 0.0;
        case Metric::map:
            for (auto h = hits.begin(); h < end; ++h)
                sum += static_cast<double>(h - hits.begin() + 1) / static_cast<double>(*h + 1);
            return sum / static_cast<double>(reachable);
        case Metric::precision: return n_hits / static_cast<double>(m.k);
    }
    return std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

void ranking(Matrix<const std::int32_t> items, const ItemLists& relevant, std::int64_t n_items,
             const std::vector<Measure>& measures, Matrix<double> out, int n_threads) {
    std::int64_t deepest = 0;
    for (const Measure& m : measures) deepest = std::max(deepest, m.k);
    const std::int64_t depth = std::min(deepest, items.cols);
    const Discounts discounts(std::max(depth, std::min(deepest, n_items)));
    parallel_for(items.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<unsigned char> is_relevant(static_cast<std::size_t>(n_items), 0);
        std::vector<std::int64_t> hits;
        for (std::int64_t b = begin; b < end; ++b) {
            for (auto j = relevant.begin(b); j < relevant.end(b); ++j)
                is_relevant[static_cast<std::size_t>(*j)] = 1;
            hits.clear();
            for (std::int64_t i = 0; i < depth; ++i) {
                const std::int32_t j = items.row(b)[i];
                if (j >= 0 && is_relevant[static_cast<std::size_t>(j)]) hits.push_back(i);
            }
            for (auto j = relevant.begin(b); j < relevant.end(b); ++j)
                is_relevant[static_cast<std::size_t>(*j)] = 0;
            const std::int64_t n_relevant = relevant.end(b) - relevant.begin(b);
            for (std::size_t m = 0; m < measures.size(); ++m)
                out.row(static_cast<std::int64_t>(m))[b] =
                    n_relevant == 0 ? std::numeric_limits<double>::quiet_NaN()
                                    : value_of(measures[m], hits, n_relevant, discounts);
        }
    });
}

}  // namespace pyrec
