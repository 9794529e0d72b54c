#include "cuda/gram.h"
#include "cuda/search.h"

namespace pyrec::cuda {
namespace {

constexpr int kBytes = 48 << 10;  // shared memory of a block, which every device has
constexpr int kAtOnce = 4;        // entries of a row that a lane reads together: latency is what costs
constexpr int kSide = 32, kLines = 8;

// Where all values are 1 the warps of a block count together: the order of whole numbers does not matter.
struct Counts {
    using Cell = unsigned;
    static constexpr int kThreads = 512, kCopies = 1, kColumns = kBytes / sizeof(Cell);
    static constexpr bool kWeighted = false;
    static __device__ __forceinline__ void add(Cell& cell, float, float) { atomicAdd(&cell, 1u); }
};

// Else each has sums of its own, of the users that are its turn, one user after the other.
template <class T> struct Sums {
    using Cell = T;
    static constexpr int kThreads = 256, kCopies = kThreads / kWarp;
    static constexpr int kColumns = kBytes / sizeof(Cell) / kCopies;
    static constexpr bool kWeighted = true;
    static __device__ __forceinline__ void add(Cell& cell, float a, float b) {
        cell += static_cast<T>(a) * static_cast<T>(b);
    }
};

// Adds a user's entries from..to to the sums of columns from `left` on.
template <class Tile>
__device__ __forceinline__ void add_entries(const Csr& x, std::int64_t from, std::int64_t to, float value,
                                            std::int64_t left, typename Tile::Cell* cells) {
    for (std::int64_t q = from + threadIdx.x % kWarp; q < to; q += kAtOnce * kWarp) {
        std::int32_t items[kAtOnce];
        float values[kAtOnce];
        for (int a = 0; a < kAtOnce; ++a) {
            const bool there = q + a * kWarp < to;
            items[a] = there ? __ldg(x.indices + q + a * kWarp) : -1;
            values[a] = Tile::kWeighted && there ? __ldg(x.values + q + a * kWarp) : 1.0f;
        }
        for (int a = 0; a < kAtOnce; ++a)
            if (items[a] >= 0) Tile::add(cells[items[a] - left], value, values[a]);
    }
}

// A block makes a tile of columns of row i. Its warps take the users of item i in turn, 32 of them at
// a time: each lane finds where in one of their rows the tile is, then all add one row after the other.
template <class Tile, class T> __global__ void __launch_bounds__(Tile::kThreads)
    gram_tile(Csr x, Occurrences where, Matrix<T> out) {
    PYREC_DYNAMIC_SHARED(typename Tile::Cell, cells);
    constexpr int threads = Tile::kThreads;
    const std::int64_t i = blockIdx.x, left = static_cast<std::int64_t>(blockIdx.y) * Tile::kColumns;
    const std::int64_t right = left + Tile::kColumns < x.cols ? left + Tile::kColumns : x.cols;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
    T* const row = out.row(i);
    if (right <= i) {
        for (std::int64_t j = left + thread; j < right; j += threads) row[j] = 0;
        return;
    }
    for (int c = thread; c < Tile::kCopies * Tile::kColumns; c += threads) cells[c] = 0;
    __syncthreads();

    auto* const own = cells + warp % Tile::kCopies * Tile::kColumns;
    const std::int64_t end = where.begin[i + 1];
    for (std::int64_t first = where.begin[i] + warp * kWarp; first < end; first += threads) {
        std::int64_t from = 0, to = 0;
        float value = 0;
        if (first + lane < end) {
            // From the item itself on: what is left of the diagonal is in another row.
            from = where.entries[first + lane];
            to = where.row_ends[first + lane];
            if (Tile::kWeighted) value = x.values[from];
            if (left > i) from = first_from(x.indices, from, to, left);
            if (right < x.cols) to = first_from(x.indices, from, to, right);
        }
        const int users = end - first < kWarp ? static_cast<int>(end - first) : kWarp;
        for (int u = 0; u < users; ++u) {
            const std::int64_t begin = __shfl_sync(kAllLanes, from, u), stop = __shfl_sync(kAllLanes, to, u);
            add_entries<Tile>(x, begin, stop, __shfl_sync(kAllLanes, value, u), left, own);
            // The items of a user are distinct, those of two are not.
            if (Tile::kCopies > 1) __syncwarp();
        }
    }
    __syncthreads();

    for (std::int64_t j = left + thread; j < right; j += threads) {
        T sum = static_cast<T>(cells[j - left]);
        for (int w = 1; w < Tile::kCopies; ++w) sum += static_cast<T>(cells[w * Tile::kColumns + (j - left)]);
        row[j] = sum;
    }
}

template <class Tile, class T>
void make_tiles(const Queue& queue, const Csr& x, const Occurrences& where, Matrix<T> out) {
    const dim3 grid(static_cast<unsigned>(x.cols), blocks_for(x.cols, Tile::kColumns));
    constexpr std::size_t bytes = sizeof(typename Tile::Cell) * Tile::kCopies * Tile::kColumns;
    launch("gram", gram_tile<Tile, T>, grid, Tile::kThreads, bytes, queue, x, where, out);
}

// A tile and its mirror image; through shared memory, so that both are touched by whole lines.
template <class T> __global__ void mirror_tile(Matrix<T> a) {
    __shared__ T tile[kSide][kSide + 1];
    if (blockIdx.y > blockIdx.x) return;
    const std::int64_t top = static_cast<std::int64_t>(blockIdx.y) * kSide;
    const std::int64_t left = static_cast<std::int64_t>(blockIdx.x) * kSide;
    const int across = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
    for (int r = line; r < kSide; r += kLines)
        if (top + r < a.rows && left + across < a.cols) tile[r][across] = a.row(top + r)[left + across];
    __syncthreads();
    for (int r = line; r < kSide; r += kLines) {
        const std::int64_t i = left + r, j = top + across;
        if (i < a.rows && j < i) a.row(i)[j] = tile[across][r];
    }
}

}  // namespace

template <class T>
void gram(const Queue& queue, const Csr& x, const Occurrences& where, bool ones, Matrix<T> out) {
    if (ones) make_tiles<Counts>(queue, x, where, out);
    else make_tiles<Sums<T>>(queue, x, where, out);
}

template <class T> void mirror_upper(const Queue& queue, Matrix<T> a) {
    const unsigned tiles = blocks_for(a.cols, kSide);
    launch("mirror_upper", mirror_tile<T>, dim3(tiles, tiles), kSide * kLines, 0, queue, a);
}

template void gram(const Queue&, const Csr&, const Occurrences&, bool, Matrix<float>);
template void gram(const Queue&, const Csr&, const Occurrences&, bool, Matrix<double>);
template void mirror_upper(const Queue&, Matrix<float>);
template void mirror_upper(const Queue&, Matrix<double>);

}  // namespace pyrec::cuda
