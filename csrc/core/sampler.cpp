#include "core/sampler.h"

#include <algorithm>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 32;          // dense rows a task
constexpr std::int64_t kSparseRows = 1024;  // less work than to wake a thread for half of them
constexpr std::int64_t kAhead = 6;          // rows fetched ahead of their use
// Floats that no cache will hold until they are read.
constexpr std::int64_t kBeyondCaches = 8 << 20;

void fetch_row(const Csr& x, std::int64_t row) {
    if (row < 0) return;
    const std::int64_t begin = x.indptr[row], end = x.indptr[row + 1];
    for (std::int64_t q = begin; q < end && q < begin + 64; q += 16) {
        __builtin_prefetch(x.indices + q);
        __builtin_prefetch(x.values + q);
    }
}

// Zeros; past the caches, so that what is overwritten is not read first.
void clear(float* x, std::int64_t n, bool past_caches) {
    std::int64_t j = 0;
#if defined(__SSE2__)
    if (past_caches) {
        for (; j < n && reinterpret_cast<std::uintptr_t>(x + j) % 16 != 0; ++j) x[j] = 0.0f;
        for (; j + 4 <= n; j += 4) _mm_stream_ps(x + j, _mm_setzero_ps());
        _mm_sfence();
    }
#else
    static_cast<void>(past_caches);
#endif
    std::fill(x + j, x + n, 0.0f);
}

template <class T> PYREC_INLINE std::int64_t count(const T* x, std::int64_t n) {
    std::int64_t total = 0;
#pragma omp simd reduction(+ : total)
    for (std::int64_t j = 0; j < n; ++j) total += x[j] != 0;
    return total;
}

PYREC_CLONES std::int64_t count_leaf(const float* x, std::int64_t n) { return count(x, n); }
std::int64_t count_leaf(const double* x, std::int64_t n) { return count(x, n); }

}  // namespace

void take_rows(const Csr& x, Vector<const std::int64_t> numbers, Vector<const std::int64_t> indptr,
               Vector<std::int32_t> items, Vector<float> values, int n_threads) {
    parallel_for(numbers.size, kSparseRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            fetch_row(x, b + kAhead < end ? numbers[b + kAhead] : -1);
            const std::int64_t from = x.indptr[numbers[b]];
            const auto size = static_cast<std::size_t>(indptr[b + 1] - indptr[b]);
            if (size == 0) continue;
            std::memcpy(items.data + indptr[b], x.indices + from, size * sizeof(std::int32_t));
            std::memcpy(values.data + indptr[b], x.values + from, size * sizeof(float));
        }
    });
}

void take_rows_dense(const Csr& x, Vector<const std::int64_t> numbers, Matrix<float> out, int n_threads) {
    const bool past_caches = out.rows * out.cols >= kBeyondCaches;
    parallel_for(numbers.size, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        clear(out.row(begin), (end - begin) * out.cols, past_caches);
        for (std::int64_t b = begin; b < end; ++b)
            for (std::int64_t q = x.indptr[numbers[b]]; q < x.indptr[numbers[b] + 1]; ++q) {
                // Checked once more: the arrays are borrowed for long, and this one writes.
                const std::int64_t item = x.indices[q];
                if (item >= 0 && item < out.cols) out.row(b)[item] = x.values[q];
            }
    });
}

template <class T> void count_nonzeros(Matrix<const T> x, Vector<std::int64_t> counts, int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) counts[b] = count_leaf(x.row(b), x.cols);
    });
}

template <class T> void take_nonzeros(Matrix<const T> x, Vector<const std::int64_t> indptr,
                                      Vector<std::int32_t> items, Vector<T> values, int n_threads) {
    constexpr std::int64_t block = 64;
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            std::int64_t q = indptr[b];
            const T* row = x.row(b);
            for (std::int64_t j = 0; j < x.cols; j += block) {
                const std::int64_t stop = std::min(j + block, x.cols);
                if (count_leaf(row + j, stop - j) == 0) continue;  // nearly all are
                for (std::int64_t i = j; i < stop && q < indptr[b + 1]; ++i) {
                    if (row[i] == 0) continue;
                    items[q] = static_cast<std::int32_t>(i);
                    values[q++] = row[i];
                }
            }
        }
    });
}

template void count_nonzeros(Matrix<const float>, Vector<std::int64_t>, int);
template void count_nonzeros(Matrix<const double>, Vector<std::int64_t>, int);
template void take_nonzeros(Matrix<const float>, Vector<const std::int64_t>, Vector<std::int32_t>,
                            Vector<float>, int);
template void take_nonzeros(Matrix<const double>, Vector<const std::int64_t>, Vector<std::int32_t>,
                            Vector<double>, int);

}  // namespace pyrec
