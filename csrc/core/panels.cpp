#include "core/panels.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 4;        // rows packed together: they stay in the second-level cache
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

PYREC_INLINE void store(const float* values, float* out) { std::copy(values, values + kPanel, out); }

// Column c beside column c + 16: two columns a word.
PYREC_INLINE void store(const float* values, Bf16* out) {
    for (std::int64_t half = 0; half < kPanel; half += 32) {
        std::uint32_t words[16];
#pragma omp simd
        for (std::int64_t c = 0; c < 16; ++c) {
            const std::uint32_t low = nearest(values[half + c]), high = nearest(values[half + 16 + c]);
            words[c] = high << 16 | low;
        }
        std::memcpy(out + half, words, sizeof words);
    }
}

PYREC_INLINE float rounded(float x, float) { return x; }
PYREC_INLINE float rounded(float x, Bf16) { return widen(Bf16{static_cast<std::uint16_t>(nearest(x))}); }

// A row of a panel: its columns of a row of weights, zeros beyond `size`. Returns the largest.
template <class T>
PYREC_INLINE float pack_one(const float* row, const std::int32_t* columns, std::int64_t size, T* out) {
    constexpr std::int64_t kLanes = 16;
    float values[kPanel], most[kLanes];
#pragma omp simd
    for (std::int64_t c = 0; c < kPanel; ++c) values[c] = row[columns[c]];
    for (std::int64_t c = size; c < kPanel; ++c) values[c] = 0;
    store(values, out);
    for (std::int64_t c = size; c < kPanel; ++c) values[c] = -std::numeric_limits<float>::infinity();
    std::fill(most, most + kLanes, -std::numeric_limits<float>::infinity());
    for (std::int64_t c = 0; c < kPanel; c += kLanes) {
#pragma omp simd
        for (std::int64_t i = 0; i < kLanes; ++i) {
            const float x = rounded(values[c + i], T{});
            most[i] = x > most[i] ? x : most[i];  // a NaN is not
        }
    }
    return *std::max_element(most, most + kLanes);
}

PYREC_CLONES float pack_row(const float* row, const std::int32_t* columns, std::int64_t size, float* out) {
    return pack_one(row, columns, size, out);
}
PYREC_CLONES float pack_row(const float* row, const std::int32_t* columns, std::int64_t size, Bf16* out) {
    return pack_one(row, columns, size, out);
}

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
                if (p < n_panels)
                    bound = pack_row(weights.row(panels.order[r]), panels.order + p * kPanel,
                                     std::min(kPanel, n - p * kPanel), panels.panel(p) + r * kPanel);
            }
    });
}

template void pack_weights(Matrix<const float>, const Panels<float>&, std::int64_t, std::int64_t, int);
template void pack_weights(Matrix<const float>, const Panels<Bf16>&, std::int64_t, std::int64_t, int);

}  // namespace pyrec
