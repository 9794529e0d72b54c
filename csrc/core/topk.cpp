#include "core/topk.h"

#include <algorithm>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"
#include "core/select.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 64;  // a task: enough to forget the cost of its working space

// y += sum of four scaled rows: y goes through the cache once for all four.
PYREC_CLONES void add_rows(const float* const* rows, const float* scale, std::int64_t n, float* y) {
    const float *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    const float p = scale[0], q = scale[1], r = scale[2], s = scale[3];
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) y[j] += (p * a[j] + q * b[j]) + (r * c[j] + s * d[j]);
}

PYREC_CLONES void add_row(const float* row, float scale, std::int64_t n, float* y) {
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) y[j] += scale * row[j];
}

void score_row(const Csr& x, std::int64_t u, Matrix<const float> weights, Vector<const float> offset,
               float* y) {
    if (offset.data) std::copy(offset.data, offset.data + offset.size, y);
    else std::fill(y, y + weights.cols, 0.0f);
    std::int64_t q = x.indptr[u];
    const std::int64_t end = x.indptr[u + 1];
    for (; q + 4 <= end; q += 4) {
        const float* rows[4];
        for (int z = 0; z < 4; ++z) rows[z] = weights.row(x.indices[q + z]);
        add_rows(rows, x.values + q, weights.cols, y);
    }
    for (; q < end; ++q) add_row(weights.row(x.indices[q]), x.values[q], weights.cols, y);
}

}  // namespace

void topk(Matrix<const float> scores, const Candidates& candidates, Matrix<std::int32_t> items,
          Matrix<float> best, int n_threads) {
    if (items.cols == 0) return;
    parallel_for(scores.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        Selector selector(scores.cols, items.cols);
        for (std::int64_t b = begin; b < end; ++b)
            selector.select(scores.row(b), candidates, b, b + 1 < end ? scores.row(b + 1) : nullptr,
                            items.row(b), best.row(b));
    });
}

void topk_dense_weights(const Csr& x, Matrix<const float> weights, Vector<const float> offset,
                        const Candidates& candidates, Matrix<std::int32_t> items, Matrix<float> best,
                        int n_threads) {
    if (items.cols == 0) return;
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        Selector selector(weights.cols, items.cols);
        std::vector<float> scores(static_cast<std::size_t>(weights.cols));
        for (std::int64_t b = begin; b < end; ++b) {
            score_row(x, b, weights, offset, scores.data());
            selector.select(scores.data(), candidates, b, nullptr, items.row(b), best.row(b));
        }
    });
}

void scores_dense_weights(const Csr& x, Matrix<const float> weights, Vector<const float> offset,
                          Matrix<float> out, int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) score_row(x, b, weights, offset, out.row(b));
    });
}

}  // namespace pyrec
