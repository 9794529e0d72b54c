#include "core/topk.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "core/product.h"
#include "core/select.h"
#include "core/sparse_linear.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 64;  // a task: enough to forget the cost of its working space

// Scores of a task of topk_factors: users enough that the items' panels, read from memory once a
// task, cost little; few enough that the scores stay near until they are selected from.
constexpr std::int64_t kBlockScores = 2 << 20, kLeastUsers = 16, kMostUsers = 512;

// Working space of tasks: as many buffers as threads ever work at the same time. A buffer a task
// would be mapped anew each time, which takes as long as to fill it.
class Space {
  public:
    Space(std::int64_t size, int n_threads) : size_(static_cast<std::size_t>(size)) {
        free_.reserve(static_cast<std::size_t>(n_threads));  // giving back must not fail
    }

    std::unique_ptr<float[]> take() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (free_.empty()) return std::unique_ptr<float[]>(new float[size_]);
        auto buffer = std::move(free_.back());
        free_.pop_back();
        return buffer;
    }

    void give(std::unique_ptr<float[]> buffer) {
        const std::lock_guard<std::mutex> lock(mutex_);
        free_.push_back(std::move(buffer));
    }

  private:
    std::size_t size_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<float[]>> free_;
};

// A buffer of a Space for as long as a task needs it.
class Lease {
  public:
    explicit Lease(Space& space) : space_(space), buffer_(space.take()) {}
    ~Lease() { space_.give(std::move(buffer_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* get() const { return buffer_.get(); }

  private:
    Space& space_;
    std::unique_ptr<float[]> buffer_;
};

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
    Space space(ItemPanels<float>::padded_rows(std::min(block, h.rows)) * packed.stride(), n_threads);
    parallel_for(h.rows, block, n_threads, [&](std::int64_t begin, std::int64_t end) {
        const Lease scores(space);
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
