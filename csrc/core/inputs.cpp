#include "core/inputs.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"

namespace pyrec {
namespace {

// Cheap work: to wake a thread takes as long as 50,000 entries do.
constexpr std::int64_t kRows = 2048, kEntries = 1 << 17;

template <class T> PYREC_INLINE void drop_some(const T* values, std::int64_t begin, std::int64_t end,
                                               std::uint64_t least, T scale, std::uint64_t seed, T* out) {
#pragma omp simd
    for (std::int64_t q = begin; q < end; ++q)
        out[q] = drawn_for(q, seed) >= static_cast<std::uint32_t>(least) ? values[q] * scale : T{0};
}

PYREC_CLONES void drop_leaf(const float* values, std::int64_t begin, std::int64_t end, std::uint64_t least,
                            float scale, std::uint64_t seed, float* out) {
    drop_some(values, begin, end, least, scale, seed, out);
}
PYREC_CLONES void drop_leaf(const double* values, std::int64_t begin, std::int64_t end, std::uint64_t least,
                            double scale, std::uint64_t seed, double* out) {
    drop_some(values, begin, end, least, scale, seed, out);
}

template <class T> PYREC_INLINE double squares(const T* values, std::int64_t begin, std::int64_t end) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t q = begin; q < end; ++q)
        sum += static_cast<double>(values[q]) * static_cast<double>(values[q]);
    return sum;
}

PYREC_CLONES double sum_of_squares(const float* values, std::int64_t begin, std::int64_t end) {
    return squares(values, begin, end);
}
PYREC_CLONES double sum_of_squares(const double* values, std::int64_t begin, std::int64_t end) {
    return squares(values, begin, end);
}

}  // namespace

template <class T>
void normalize_rows(Vector<const std::int64_t> indptr, Vector<const T> values, Vector<T> out, int n_threads) {
    parallel_for(indptr.size - 1, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const double squares = sum_of_squares(values.data, indptr[b], indptr[b + 1]);
            const T scale = squares > 0 ? static_cast<T>(1 / std::sqrt(squares)) : T{1};
            for (std::int64_t q = indptr[b]; q < indptr[b + 1]; ++q) out[q] = values[q] * scale;
        }
    });
}

template <class T>
void drop(Vector<const T> values, double share, std::uint64_t seed, Vector<T> out, int n_threads) {
    const std::uint64_t least = threshold_of(share);
    const T scale = static_cast<T>(1 / (1 - share));
    parallel_for(values.size, kEntries, n_threads, [&](std::int64_t begin, std::int64_t end) {
        if (least > 0xFFFFFFFFull) std::fill(out.data + begin, out.data + end, T{0});
        else drop_leaf(values.data, begin, end, least, scale, seed, out.data);
    });
}

template void normalize_rows(Vector<const std::int64_t>, Vector<const float>, Vector<float>, int);
template void normalize_rows(Vector<const std::int64_t>, Vector<const double>, Vector<double>, int);
template void drop(Vector<const float>, double, std::uint64_t, Vector<float>, int);
template void drop(Vector<const double>, double, std::uint64_t, Vector<double>, int);

}  // namespace pyrec
