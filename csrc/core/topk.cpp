#include "core/topk.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/select.h"
#include "core/sparse_linear.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 64;  // a task: enough to forget the cost of its working space

// Scores of a task of topk_factors: enough rows that packing the item factors costs little, few
// enough that the scores of two threads stay in the last-level cache until they are selected from.
constexpr std::int64_t kBlockScores = 2 << 20;

// s = h[begin..end] * itemsᵀ + beta * s. BLAS counts columns first: it sees everything transposed.
void multiply(Matrix<const float> h, std::int64_t begin, std::int64_t end, Matrix<const float> items,
              float beta, float* s, const Blas<float>& blas) {
    int m = static_cast<int>(items.rows), n = static_cast<int>(end - begin), r = static_cast<int>(h.cols);
    if (m == 0 || n == 0) return;
    char yes = 'T', no = 'N';
    float one = 1.0f;
    int ld = std::max(1, r);
    blas.gemm(&yes, &no, &m, &n, &r, &one, const_cast<float*>(items.data), &ld,
              const_cast<float*>(h.row(begin)), &ld, &beta, s, &m);
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
            sparse_row(x, b, weights, offset, scores.data());
            selector.select(scores.data(), candidates, b, nullptr, items.row(b), best.row(b));
        }
    });
}

void topk_factors(Matrix<const float> h, Matrix<const float> items, Vector<const float> bias,
                  const Candidates& candidates, Matrix<std::int32_t> best_items, Matrix<float> best,
                  const Blas<float>& blas, int n_threads) {
    if (best_items.cols == 0) return;
    const std::int64_t block =
        std::max<std::int64_t>(16, kBlockScores / std::max<std::int64_t>(1, items.rows));
    parallel_for(h.rows, block, n_threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<float> scores(static_cast<std::size_t>((end - begin) * items.rows));
        float* const s = scores.data();
        if (bias.data)
            for (std::int64_t b = begin; b < end; ++b)
                std::copy(bias.data, bias.data + bias.size, s + (b - begin) * items.rows);
        multiply(h, begin, end, items, bias.data ? 1.0f : 0.0f, s, blas);
        Selector selector(items.rows, best_items.cols);
        for (std::int64_t b = begin; b < end; ++b) {
            const float* row = s + (b - begin) * items.rows;
            selector.select(row, candidates, b, b + 1 < end ? row + items.rows : nullptr, best_items.row(b),
                            best.row(b));
        }
    });
}

}  // namespace pyrec
