#include "core/ranking.h"

#include <algorithm>
#include <cmath>

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
                    n_relevant == 0
                        ? kUndefined
                        : value_of(measures[m], hits.data(), static_cast<std::int64_t>(hits.size()),
                                   n_relevant, discounts.at.data(), discounts.sum.data());
        }
    });
}

}  // namespace pyrec
