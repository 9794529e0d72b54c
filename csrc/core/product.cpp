#include "core/product.h"

#include <algorithm>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

// Entries multiplied at a time: this many of a panel stay in the second-level cache.
template <class T> constexpr std::int64_t kDepth = 4096 / static_cast<std::int64_t>(sizeof(T));

// A vector register, or two shorter ones. Anywhere in memory: the rows of the result begin where they do.
template <class T> struct Lanes {
    static constexpr int size = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));
};

// A tile of H rows x V registers of items: c += a * b, its sums in registers. a and b are packed.
// Meanwhile memory that is needed soon is fetched, a line for each k.
template <int H, int V, class T>
PYREC_INLINE void tile(const T* a, const T* b, const T* soon, std::int64_t depth, std::int64_t stride, T* c) {
    using Register = typename Lanes<T>::type;
    constexpr int lanes = Lanes<T>::size;
    Register sums[H][V];
    for (int u = 0; u < H; ++u)
        for (int v = 0; v < V; ++v)
            sums[u][v] = *reinterpret_cast<const Register*>(c + u * stride + lanes * v);
    for (std::int64_t k = 0; k < depth; ++k, a += H, b += lanes * V, soon += lanes) {
        __builtin_prefetch(soon, 0, 2);
        Register items[V];
        for (int v = 0; v < V; ++v) items[v] = *reinterpret_cast<const Register*>(b + lanes * v);
        for (int u = 0; u < H; ++u)
            for (int v = 0; v < V; ++v) sums[u][v] += a[u] * items[v];
    }
    for (int u = 0; u < H; ++u)
        for (int v = 0; v < V; ++v) *reinterpret_cast<Register*>(c + u * stride + lanes * v) = sums[u][v];
}

// Of AVX-512's 32 registers 24 hold sums; of the 16 shorter ones of AVX2, 12.
constexpr int kWideHeight = 8, kWideVectors = 3, kNarrowHeight = 6, kNarrowVectors = 1;

#define PYREC_TILES(T)                                                                       \
    PYREC_CLONES void wide_tile(const T* a, const T* b, const T* soon, std::int64_t depth,   \
                                std::int64_t stride, T* c) {                                 \
        tile<kWideHeight, kWideVectors>(a, b, soon, depth, stride, c);                       \
    }                                                                                        \
    PYREC_CLONES void narrow_tile(const T* a, const T* b, const T* soon, std::int64_t depth, \
                                  std::int64_t stride, T* c) {                               \
        tile<kNarrowHeight, kNarrowVectors>(a, b, soon, depth, stride, c);                   \
    }
PYREC_TILES(float)
PYREC_TILES(double)
#undef PYREC_TILES

bool has_wide_registers() {
#if PYREC_HAS_CLONES
    static const bool wide = [] {
        __builtin_cpu_init();
        return static_cast<bool>(__builtin_cpu_supports("x86-64-v4"));
    }();
    return wide;
#else
    return false;
#endif
}

// out[k * width + r] = rows[r][k], zero from the last row to `width`.
template <class T> void pack_rows(Matrix<const T> rows, std::int64_t width, T* out) {
    constexpr std::int64_t step = 64 / sizeof(T);  // a line of each row at a time
    for (std::int64_t k = 0; k < rows.cols; k += step) {
        const std::int64_t stop = std::min(k + step, rows.cols);
        for (std::int64_t r = 0; r < rows.rows; ++r)
            for (std::int64_t z = k; z < stop; ++z) out[z * width + r] = rows.row(r)[z];
        for (std::int64_t z = k; z < stop; ++z)
            std::fill(out + z * width + rows.rows, out + (z + 1) * width, T(0));
    }
}

}  // namespace

template <class T> std::int64_t ItemPanels<T>::width() {
    return Lanes<T>::size * (has_wide_registers() ? kWideVectors : kNarrowVectors);
}

template <class T> std::int64_t ItemPanels<T>::group() {
    return has_wide_registers() ? kWideHeight : kNarrowHeight;
}

template <class T> void ItemPanels<T>::pack(Matrix<const T> items, int n_threads) const {
    const bool in_place = items.data == data;
    const auto size = static_cast<std::size_t>(width() * rank);
    parallel_for(n_panels(), 16, n_threads, [&](std::int64_t begin, std::int64_t end) {
        // A panel lies where its items' rows were, so one is moved out of the way at a time.
        std::vector<T> moved(in_place ? size : 0);
        for (std::int64_t p = begin; p < end; ++p) {
            const std::int64_t first = p * width(), count = std::min(width(), n_items - first);
            const T* rows = items.row(first);
            if (in_place) {
                std::copy(rows, rows + count * rank, moved.data());
                rows = moved.data();
            }
            pack_rows<T>({rows, count, rank}, width(), data + first * rank);
        }
    });
}

template <class T> void ItemPanels<T>::multiply(std::int64_t begin, std::int64_t end, const T* packed_rows,
                                                std::int64_t rows, T* out) const {
    void (*multiply_tile)(const T*, const T*, const T*, std::int64_t, std::int64_t, T*) = narrow_tile;
    if (has_wide_registers()) multiply_tile = wide_tile;
    for (std::int64_t k = 0; k < rank; k += kDepth<T>)
        for (std::int64_t p = begin; p < end; ++p) {
            const T* const slice = data + (p * rank + k) * width();
            const std::int64_t depth = std::min(kDepth<T>, rank - k);
            // The slice after this one, spread over the first groups of rows.
            const T* soon =
                p + 1 < end ? slice + rank * width() : data + (begin * rank + k + depth) * width();
            const T* const last = data + stride() * rank - Lanes<T>::size * depth;
            for (std::int64_t u = 0; u < rows; u += group(), soon += Lanes<T>::size * depth) {
                soon = std::min(soon, last);
                multiply_tile(packed_rows + u * rank + k * group(), slice, soon, depth, stride(),
                              out + u * stride() + p * width());
            }
        }
}

template <class T> void pack_group(Matrix<const T> rows, T* packed) {
    pack_rows(rows, ItemPanels<T>::group(), packed);
}

PackedItems::PackedItems(Matrix<const float> items, Vector<const float> bias, int n_threads)
    : memory_(new float[static_cast<std::size_t>(ItemPanels<float>::padded_items(items.rows) * items.cols)]),
      panels_{memory_.get(), items.rows, items.cols},
      bias_(static_cast<std::size_t>(stride()), 0.0f) {
    if (bias.data) std::copy(bias.data, bias.data + bias.size, bias_.data());
    panels_.pack(items, n_threads);
}

void PackedItems::multiply(Matrix<const float> h, std::int64_t begin, std::int64_t end, float* scores,
                           std::vector<float>& packed_users) const {
    const std::int64_t group = panels_.group(), rows = panels_.padded_rows(end - begin);
    packed_users.resize(static_cast<std::size_t>(rows * h.cols));
    for (std::int64_t u = 0; u < rows; u += group)
        pack_group<float>({h.row(begin + u), std::min(group, end - begin - u), h.cols},
                          packed_users.data() + u * h.cols);
    for (std::int64_t u = 0; u < rows; ++u) std::copy(bias_.begin(), bias_.end(), scores + u * stride());
    panels_.multiply(0, panels_.n_panels(), packed_users.data(), rows, scores);
}

template struct ItemPanels<float>;
template struct ItemPanels<double>;
template void pack_group(Matrix<const float>, float*);
template void pack_group(Matrix<const double>, double*);

}  // namespace pyrec
