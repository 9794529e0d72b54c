#include "core/topk.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/parallel.h"
#include "core/product.h"
#include "core/select.h"
#include "core/spares.h"
#include "core/sparse_linear.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 64;  // a task: enough to forget the cost of its working space

// Scores of a task of topk_factors: users enough that the items' panels, read from memory once a
// task, cost little; few enough that the scores stay near until they are selected from.
constexpr std::int64_t kBlockScores = 2 << 20, kLeastUsers = 16, kMostUsers = 512;

template <class Weights> void topk_weights(const Csr& x, const Weights& weights, Vector<const float> offset,
                                           const Candidates& candidates, Matrix<std::int32_t> items,
                                           Matrix<float> best, int n_threads) {
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
    topk_weights(x, weights, offset, candidates, items, best, n_threads);
}

void topk_sparse_weights(const Csr& x, const Csr& weights, Vector<const float> offset,
                         const Candidates& candidates, Matrix<std::int32_t> items, Matrix<float> best,
                         int n_threads) {
    topk_weights(x, weights, offset, candidates, items, best, n_threads);
}

void topk_factors(Matrix<const float> h, Matrix<const float> items, Vector<const float> bias,
                  const Candidates& candidates, Matrix<std::int32_t> best_items, Matrix<float> best,
                  int n_threads) {
    if (best_items.cols == 0) return;
    const PackedItems packed(items, bias, n_threads);
    const std::int64_t block =
        std::clamp(kBlockScores / std::max<std::int64_t>(1, packed.stride()), kLeastUsers, kMostUsers);
    const auto size =
        static_cast<std::size_t>(ItemPanels<float>::padded_rows(std::min(block, h.rows)) * packed.stride());
    Spares<float[]> space(n_threads);
    parallel_for(h.rows, block, n_threads, [&](std::int64_t begin, std::int64_t end) {
        const Spares<float[]>::Lease scores(space, [&] { return std::unique_ptr<float[]>(new float[size]); });
        std::vector<float> packed_users;
        packed.multiply(h, begin, end, scores.get(), packed_users);
        Selector selector(items.rows, best_items.cols);
        for (std::int64_t b = begin; b < end; ++b) {
            const float* row = scores.get() + (b - begin) * packed.stride();
            selector.select(row, candidates, b, b + 1 < end ? row + packed.stride() : nullptr,
                            best_items.row(b), best.row(b));
        }
    });
}

}  // namespace pyrec
