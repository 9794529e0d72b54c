#include <type_traits>

#include "cuda/sparse_linear.h"
#include "cuda/wide.h"

namespace pyrec::cuda {
namespace {

// Threads for the columns of a tile, at most: 600 columns, as of many a first layer, are one tile, and of
// 20,000 rows of weights the tile's part is 50 MB, which a large second-level cache holds.
constexpr int kMostLanes = 160;

// So many threads share the columns of a tile where the entries of a row are divided among them too.
constexpr int kMostThreads = 512;

// From so many tiles on, the entries of a row are not divided: there is enough to do at a time.
constexpr std::int64_t kManyTiles = 8;

struct Shape {
    std::int64_t tiles;
    int lanes;  // threads of a tile, a pack of columns each
};

Shape shape_of(std::int64_t packs) {
    const std::int64_t tiles = (packs + kMostLanes - 1) / kMostLanes;
    const std::int64_t each = tiles > 0 ? (packs + tiles - 1) / tiles : 0;
    return {tiles, static_cast<int>((each + kWarp - 1) / kWarp * kWarp)};
}

// Whether rows of a matrix can be read and written by 16 bytes.
template <class T> bool is_wide(Matrix<T> m) {
    return m.cols % kWide<T> == 0 && is_aligned<T, kWide<T>>(m.data);
}

// sum += values[q] * the columns from j on of the weights of item q, for kCount entries from q on: all is
// asked for before any is used, and loads without conditions are what the compiler leaves so.
template <int kCount, int N, class T>
__device__ __forceinline__ void add_entries(const std::int32_t* indices, const T* values, const T* weights,
                                            std::int64_t cols, T (&sum)[N]) {
    T value[kCount], weight[kCount][N];
    std::int64_t item[kCount];
    PYREC_UNROLL for (int z = 0; z < kCount; ++z) item[z] = indices[z];
    PYREC_UNROLL for (int z = 0; z < kCount; ++z) value[z] = values[z];
    PYREC_UNROLL for (int z = 0; z < kCount; ++z) load_aligned(weights + item[z] * cols, weight[z]);
    PYREC_UNROLL for (int z = 0; z < kCount; ++z) PYREC_UNROLL for (int i = 0; i < N; ++i) sum[i] +=
        value[z] * weight[z][i];
}

// A block makes the columns of one tile of a row. Slice s of its threads sums the s-th part of the row's
// entries; the first adds the parts up. Blocks of a tile follow each other: popular items' weights are
// read from memory once a tile.
template <int N, class T> __global__ void __launch_bounds__(kMostThreads, kResident / kMostThreads)
    product_kernel(const std::int64_t* indptr, const std::int32_t* indices, const T* values, const T* weights,
                   std::int64_t cols, const T* offset, T* out, unsigned lanes, unsigned slices) {
    PYREC_DYNAMIC_SHARED(T, parts);
    const unsigned slice = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    const std::int64_t b = blockIdx.x;
    const std::int64_t j = (static_cast<std::int64_t>(blockIdx.y) * lanes + lane) * N;
    T sum[N] = {};
    if (j < cols) {
        if (offset && slice == 0) load(offset + j, sum);
        const std::int64_t first = indptr[b];
        const auto n = static_cast<unsigned>(indptr[b + 1] - first);
        const unsigned part = (n + slices - 1) / slices;
        const unsigned end = (slice + 1) * part < n ? (slice + 1) * part : n;
        const std::int32_t* const items = indices + first;
        const T *const counts = values + first, *const columns = weights + j;
        unsigned q = slice * part;
        for (; q + 8 <= end; q += 8) add_entries<8>(items + q, counts + q, columns, cols, sum);
        if (q + 4 <= end) {
            add_entries<4>(items + q, counts + q, columns, cols, sum);
            q += 4;
        }
        if (q + 2 <= end) {
            add_entries<2>(items + q, counts + q, columns, cols, sum);
            q += 2;
        }
        if (q < end) add_entries<1>(items + q, counts + q, columns, cols, sum);
    }
    if (slices > 1) {
        store_aligned(sum, parts + threadIdx.x * N);
        __syncthreads();
        if (slice > 0) return;
        for (unsigned s = 1; s < slices; ++s) {
            T part[N];
            load_aligned(parts + (s * lanes + lane) * N, part);
            PYREC_UNROLL for (int i = 0; i < N; ++i) sum[i] += part[i];
        }
    }
    if (j < cols) store_global(sum, out + b * cols + j);
}

template <int N, class T> void launch_product(const char* name, const Queue& queue, const BasicCsr<T>& x,
                                              const T* weights, const T* offset, Matrix<T> out,
                                              bool divided) {
    const Shape shape = shape_of((out.cols + N - 1) / N);
    const int slices =
        divided && shape.lanes > 0 && shape.tiles < kManyTiles ? kMostThreads / shape.lanes : 1;
    const std::size_t shared =
        slices > 1 ? static_cast<std::size_t>(slices * shape.lanes * N) * sizeof(T) : 0;
    launch(name, product_kernel<N, T>, dim3(blocks_for(x.rows, 1), blocks_for(shape.tiles, 1)),
           slices * shape.lanes, shared, queue, x.indptr, x.indices, x.values, weights, out.cols, offset,
           out.data, shape.lanes, slices);
}

template <class T> void product(const char* name, const Queue& queue, const BasicCsr<T>& x,
                                Matrix<const T> weights, const T* offset, Matrix<T> out, bool divided) {
    if (is_wide(weights) && is_wide(out))
        launch_product<kWide<T>>(name, queue, x, weights.data, offset, out, divided);
    else launch_product<1>(name, queue, x, weights.data, offset, out, divided);
}

constexpr int kThreads = 256;

// Blocks that share the entries of a row, a warp an entry.
constexpr unsigned kBlocks = 8;

template <int N, class T> __global__ void __launch_bounds__(kThreads, kResident / kThreads)
    value_grad_kernel(const std::int64_t* indptr, const std::int32_t* indices, const T* weights,
                      const T* out_grad, std::int64_t cols, T* grad) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    const std::int64_t b = blockIdx.x, end = indptr[b + 1];
    const T* const own = out_grad + b * cols;
    const unsigned warp = (blockIdx.y * kThreads + threadIdx.x) / kWarp;
    for (std::int64_t q = indptr[b] + warp; q < end; q += kBlocks * kThreads / kWarp) {
        const T* const weight = weights + indices[q] * cols;
        T sum = 0;
        for (std::int64_t j = lane * N; j < cols; j += kWarp * N) {
            T g[N], w[N];
            load_aligned(own + j, g);
            load_aligned(weight + j, w);
            PYREC_UNROLL for (int i = 0; i < N; ++i) sum += g[i] * w[i];
        }
        sum = warp_reduce(sum, Sum{});
        if (lane == 0) grad[q] = sum;
    }
}

template <int N, class T> void launch_value_grad(const Queue& queue, const BasicCsr<T>& x,
                                                 Matrix<const T> weights, const T* out_grad, T* grad) {
    launch("sparse_linear_value_grad", value_grad_kernel<N, T>, dim3(blocks_for(x.rows, 1), kBlocks),
           kThreads, 0, queue, x.indptr, x.indices, weights.data, out_grad, weights.cols, grad);
}

}  // namespace

template <class T> void sparse_linear(const Queue& queue, const BasicCsr<T>& x, Matrix<const T> weights,
                                      Vector<const T> offset, Matrix<T> out) {
    product("sparse_linear", queue, x, weights, offset.data, out, true);
}

template <class T> void sparse_linear_weight_grad(const Queue& queue, const BasicCsr<T>& transposed,
                                                  Matrix<const T> out_grad, Matrix<T> grad) {
    // Most items occur in a row or two, if at all: nothing to divide.
    product("sparse_linear_weight_grad", queue, transposed, out_grad, static_cast<const T*>(nullptr), grad,
            false);
}

template <class T> void sparse_linear_value_grad(const Queue& queue, const BasicCsr<T>& x,
                                                 Matrix<const T> weights, Matrix<const T> out_grad,
                                                 Vector<T> grad) {
    if (is_wide(weights) && is_wide(out_grad))
        launch_value_grad<kWide<T>>(queue, x, weights, out_grad.data, grad.data);
    else launch_value_grad<1>(queue, x, weights, out_grad.data, grad.data);
}

#define PYREC_INSTANTIATE(T)                                                                               \
    template void sparse_linear(const Queue&, const BasicCsr<T>&, Matrix<const T>, Vector<const T>,        \
                                Matrix<T>);                                                                \
    template void sparse_linear_weight_grad(const Queue&, const BasicCsr<T>&, Matrix<const T>, Matrix<T>); \
    template void sparse_linear_value_grad(const Queue&, const BasicCsr<T>&, Matrix<const T>,              \
                                           Matrix<const T>, Vector<T>);
PYREC_INSTANTIATE(float)
PYREC_INSTANTIATE(double)
#undef PYREC_INSTANTIATE

}  // namespace pyrec::cuda
