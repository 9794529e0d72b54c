#include "core/product.h"

#include <algorithm>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

// Factors multiplied at a time: this many of a panel stay in the second-level cache.
constexpr std::int64_t kDepth = 1024;

// Anywhere in memory: the scores' rows begin where they do.
typedef float v16 __attribute__((vector_size(64), aligned(4), may_alias));

// A tile of H users x 16 V items: c += a * b, its sums in registers. a and b are packed, H and 16 V
// floats for each k. Meanwhile memory that is needed soon is fetched, a line for each k.
template <int H, int V> PYREC_INLINE void tile(const float* a, const float* b, const float* soon,
                                               std::int64_t depth, std::int64_t stride, float* c) {
    v16 sums[H][V];
    for (int u = 0; u < H; ++u)
        for (int v = 0; v < V; ++v) sums[u][v] = *reinterpret_cast<const v16*>(c + u * stride + 16 * v);
    for (std::int64_t k = 0; k < depth; ++k, a += H, b += 16 * V, soon += 16) {
        __builtin_prefetch(soon, 0, 2);
        v16 items[V];
        for (int v = 0; v < V; ++v) items[v] = *reinterpret_cast<const v16*>(b + 16 * v);
        for (int u = 0; u < H; ++u)
            for (int v = 0; v < V; ++v) sums[u][v] += a[u] * items[v];
    }
    for (int u = 0; u < H; ++u)
        for (int v = 0; v < V; ++v) *reinterpret_cast<v16*>(c + u * stride + 16 * v) = sums[u][v];
}

// Of AVX-512's 32 registers 24 hold sums; of the 16 shorter ones of AVX2, 12.
constexpr int kWideHeight = 8, kWideVectors = 3, kNarrowHeight = 6, kNarrowVectors = 1;

PYREC_CLONES void wide_tile(const float* a, const float* b, const float* soon, std::int64_t depth,
                            std::int64_t stride, float* c) {
    tile<kWideHeight, kWideVectors>(a, b, soon, depth, stride, c);
}

PYREC_CLONES void narrow_tile(const float* a, const float* b, const float* soon, std::int64_t depth,
                              std::int64_t stride, float* c) {
    tile<kNarrowHeight, kNarrowVectors>(a, b, soon, depth, stride, c);
}

bool has_wide_registers() {
#if PYREC_HAS_CLONES
    __builtin_cpu_init();
    return __builtin_cpu_supports("x86-64-v4");
#else
    return false;
#endif
}

// out[k * width + r] = rows[r][k] for the rows begin..end, zero from there to `width`.
void pack(Matrix<const float> rows, std::int64_t begin, std::int64_t end, std::int64_t width, float* out) {
    constexpr std::int64_t step = 16;  // a line of each row at a time
    for (std::int64_t k = 0; k < rows.cols; k += step) {
        const std::int64_t stop = std::min(k + step, rows.cols);
        for (std::int64_t r = begin; r < end; ++r)
            for (std::int64_t z = k; z < stop; ++z) out[z * width + r - begin] = rows.row(r)[z];
        for (std::int64_t z = k; z < stop; ++z)
            std::fill(out + z * width + end - begin, out + (z + 1) * width, 0.0f);
    }
}

}  // namespace

PackedItems::PackedItems(Matrix<const float> items, Vector<const float> bias, int n_threads)
    : rank_(items.cols),
      height_(has_wide_registers() ? kWideHeight : kNarrowHeight),
      width_(16 * (has_wide_registers() ? kWideVectors : kNarrowVectors)),
      n_panels_((items.rows + width_ - 1) / width_),
      panels_(new float[static_cast<std::size_t>(stride() * rank_)]),
      bias_(static_cast<std::size_t>(stride()), 0.0f) {
    if (bias.data) std::copy(bias.data, bias.data + bias.size, bias_.data());
    parallel_for(n_panels_, 16, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t p = begin; p < end; ++p)
            pack(items, p * width_, std::min((p + 1) * width_, items.rows), width_,
                 panels_.get() + p * width_ * rank_);
    });
}

void PackedItems::multiply(Matrix<const float> h, std::int64_t begin, std::int64_t end, float* scores,
                           std::vector<float>& packed_users) const {
    const std::int64_t rows = padded(end - begin);
    packed_users.resize(static_cast<std::size_t>(rows * rank_));
    for (std::int64_t u = 0; u < rows; u += height_)
        pack(h, begin + u, std::min(begin + u + height_, end), height_, packed_users.data() + u * rank_);
    for (std::int64_t u = 0; u < rows; ++u) std::copy(bias_.begin(), bias_.end(), scores + u * stride());
    const auto multiply_tile = height_ == kWideHeight ? wide_tile : narrow_tile;
    for (std::int64_t p = 0; p < n_panels_; ++p)
        for (std::int64_t k = 0; k < rank_; k += kDepth) {
            const float* const slice = panels_.get() + p * width_ * rank_ + k * width_;
            const std::int64_t depth = std::min(kDepth, rank_ - k);
            // The slice after this one, spread over the first groups of users.
            const float* soon = slice + depth * width_;
            const float* const last = panels_.get() + stride() * rank_ - 16 * depth;
            for (std::int64_t u = 0; u < rows; u += height_, soon += 16 * depth) {
                soon = std::min(soon, last);
                multiply_tile(packed_users.data() + u * rank_ + k * height_, slice, soon, depth, stride(),
                              scores + u * stride() + p * width_);
            }
        }
}

}  // namespace pyrec
