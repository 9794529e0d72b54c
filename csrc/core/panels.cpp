#include "core/panels.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 16;       // rows packed together: their lines of a panel are neighbours
constexpr std::int64_t kColumns = 1024;  // of the norms a task

PYREC_CLONES void add_squares(const float* row, std::int64_t n, float* sums) {
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) sums[j] += row[j] * row[j];
}

// Items by the norm of their column, the largest first. A large column makes a large score, so the
// bound of a user's best rises early; and popular items, whose rows occur often, come together.
std::vector<std::int32_t> by_norm(Matrix<const float> weights, int n_threads) {
    const std::int64_t n = weights.rows;
    std::vector<float> norms(static_cast<std::size_t>(n), 0.0f);
    parallel_for(n, kColumns, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = 0; i < n; ++i)
            add_squares(weights.row(i) + begin, end - begin, norms.data() + begin);
    });
    for (float& norm : norms) norm = norm > 0 ? norm : 0;  // a NaN has no order
    std::vector<std::int32_t> order(static_cast<std::size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        return norms[static_cast<std::size_t>(a)] > norms[static_cast<std::size_t>(b)];
    });
    return order;
}

// Where a panel keeps its column c.
std::int64_t slot(std::int64_t c, float) { return c; }
std::int64_t slot(std::int64_t c, Bf16) { return c / 32 * 32 + c % 16 * 2 + c / 16 % 2; }

}  // namespace

void weights_order(Matrix<const float> weights, std::int32_t* order, int n_threads) {
    const std::vector<std::int32_t> items = by_norm(weights, n_threads);
    std::copy(items.begin(), items.end(), order);
    std::fill(order + weights.rows, order + Panels<float>::panels(weights.rows) * kPanel, 0);
}

template <class T> void pack_weights(Matrix<const float> weights, const Panels<T>& panels, std::int64_t first,
                                     std::int64_t last, int n_threads) {
    const std::int64_t n = weights.rows, n_panels = panels.count();
    const std::int64_t n_bounds = Panels<T>::panels(n_panels) * kPanel;
    parallel_for(last - first, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = 0; p < n_bounds; ++p)
            for (std::int64_t r = first + begin; r < first + end; ++r) {
                float& bound = panels.bound(p / kPanel)[r * kPanel + p % kPanel];
                bound = -std::numeric_limits<float>::infinity();
                if (p >= n_panels) continue;
                const float* const row = weights.row(panels.order[r]);
                const std::int32_t* const columns = panels.order + p * kPanel;
                T* const out = panels.panel(p) + r * kPanel;
                const std::int64_t size = std::min(kPanel, n - p * kPanel);
                for (std::int64_t c = 0; c < kPanel; ++c) {
                    T& y = out[slot(c, T{})];
                    narrow(c < size ? row[columns[c]] : 0.0f, y);
                    if (c < size && widen(y) > bound) bound = widen(y);
                }
            }
    });
}

template void pack_weights(Matrix<const float>, const Panels<float>&, std::int64_t, std::int64_t, int);
template void pack_weights(Matrix<const float>, const Panels<Bf16>&, std::int64_t, std::int64_t, int);

}  // namespace pyrec
