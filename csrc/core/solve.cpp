#include "core/solve.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kTile = 64;
constexpr std::int64_t kStrip = 4096;

// The upper triangle of a row-major matrix is the lower one of BLAS's column-major view.
char lower = 'L', left = 'L', plain = 'N', transposed = 'T', not_unit = 'N';

template <class T> std::int64_t whole_inverse(Matrix<T> a, const Blas<T>& blas) {
    int n = static_cast<int>(a.rows), info = 0;
    blas.potrf(&lower, &n, a.data, &n, &info);
    if (info == 0) blas.potri(&lower, &n, a.data, &n, &info);
    return info;
}

// z[j * m + i] = A[first + i, j] for all columns j outside the block, 0 inside it.
template <class T> void gather_panel(Matrix<T> a, std::int64_t first, std::int64_t m, T* z, int n_threads) {
    parallel_for(a.rows, kTile, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j)
            for (std::int64_t i = 0; i < m; ++i)
                z[j * m + i] = j < first ? a.row(j)[first + i] : j >= first + m ? a.row(first + i)[j] : T(0);
    });
}

template <class T>
void scatter_panel(Matrix<T> a, std::int64_t first, std::int64_t m, const T* z, int n_threads) {
    parallel_for(a.rows, kTile, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t j = begin; j < end; ++j)
            for (std::int64_t i = 0; i < m; ++i) {
                if (j < first) a.row(j)[first + i] = z[j * m + i];
                if (j >= first + m) a.row(first + i)[j] = z[j * m + i];
            }
    });
}

template <class T> void negate_upper(Matrix<T> a, int n_threads) {
    parallel_for(a.rows, kTile, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            for (std::int64_t j = i; j < a.cols; ++j) a.row(i)[j] = -a.row(i)[j];
    });
}

// A -= Z'Z for the rows x n panel Z, in strips of columns: OpenBLAS's syrk crashes at 30,000
// columns (two threads, float32), its gemm does not.
template <class T> void subtract_square(Matrix<T> a, int rows, T* z, const Blas<T>& blas) {
    int n = static_cast<int>(a.rows);
    T one = 1, minus_one = -1;
    for (std::int64_t first = 0; first < a.rows; first += kStrip) {
        const std::int64_t last = std::min(a.rows, first + kStrip);
        int width = static_cast<int>(last - first), below = static_cast<int>(a.rows - last);
        T *here = z + first * rows, *there = z + last * rows;
        blas.syrk(&lower, &transposed, &width, &rows, &minus_one, here, &rows, &one, a.row(first) + first,
                  &n);
        if (below > 0)
            blas.gemm(&transposed, &plain, &below, &width, &rows, &minus_one, there, &rows, here, &rows, &one,
                      a.row(first) + last, &n);
    }
}

// Sweeps the rows K = [first, first + m):  with A_KK = L L', Z = L^-1 A_K*, the others become
// A - Z'Z, the panel A_KK^-1 A_K* = L^-T Z, the block -A_KK^-1. All rows swept, A is -A^-1.
template <class T> std::int64_t sweep(Matrix<T> a, std::int64_t first, std::int64_t m, T* z,
                                      const Blas<T>& blas, int n_threads) {
    int n = static_cast<int>(a.rows), rows = static_cast<int>(m), info = 0;
    T* const corner = a.row(first) + first;
    T one = 1;
    blas.potrf(&lower, &rows, corner, &n, &info);
    if (info != 0) return first + info;
    gather_panel(a, first, m, z, n_threads);
    blas.trsm(&left, &lower, &plain, &not_unit, &rows, &n, &one, corner, &n, z, &rows);
    subtract_square(a, rows, z, blas);  // Z is zero in the block's own columns, which stay as they are
    blas.trsm(&left, &lower, &transposed, &not_unit, &rows, &n, &one, corner, &n, z, &rows);
    scatter_panel(a, first, m, z, n_threads);
    blas.potri(&lower, &rows, corner, &n, &info);
    for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = i; j < m; ++j) a.row(first + i)[first + j] *= T(-1);
    return info == 0 ? 0 : first + info;
}

}  // namespace

template <class T>
std::int64_t spd_inverse(Matrix<T> a, std::int64_t block, const Blas<T>& blas, int n_threads) {
    if (a.rows == 0) return 0;
    if (block <= 0) return whole_inverse(a, blas);
    block = std::min(block, a.rows);
    const std::unique_ptr<T[]> z(new T[static_cast<std::size_t>(block * a.rows)]);
    for (std::int64_t first = 0; first < a.rows; first += block) {
        const std::int64_t info = sweep(a, first, std::min(block, a.rows - first), z.get(), blas, n_threads);
        if (info != 0) return info;
    }
    negate_upper(a, n_threads);
    return 0;
}

void ease_weights(Matrix<float> p, int n_threads) {
    std::vector<float> scale(static_cast<std::size_t>(p.rows));
    for (std::int64_t j = 0; j < p.rows; ++j) scale[static_cast<std::size_t>(j)] = -1.0f / p.row(j)[j];
    const float* const s = scale.data();
    parallel_for(p.rows, kTile, n_threads, [&](std::int64_t begin, std::int64_t end) {
        // Tile (rows i, columns j >= i) is read once and written to both its places.
        for (std::int64_t first = begin; first < p.cols; first += kTile) {
            const std::int64_t last = std::min(p.cols, first + kTile);
            for (std::int64_t i = begin; i < end; ++i)
                for (std::int64_t j = std::max(first, i + 1); j < last; ++j) p.row(j)[i] = p.row(i)[j] * s[i];
            for (std::int64_t i = begin; i < end; ++i)
                for (std::int64_t j = std::max(first, i + 1); j < last; ++j) p.row(i)[j] *= s[j];
        }
        for (std::int64_t i = begin; i < end; ++i) p.row(i)[i] = 0.0f;
    });
}

template std::int64_t spd_inverse(Matrix<float>, std::int64_t, const Blas<float>&, int);
template std::int64_t spd_inverse(Matrix<double>, std::int64_t, const Blas<double>&, int);

}  // namespace pyrec
