#include "core/gram.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"
#include "core/transpose.h"

namespace pyrec {
namespace {

constexpr std::int64_t kItems = 16;     // rows of the result a task
constexpr std::int64_t kAhead = 8;      // users whose rows are fetched ahead of their use
constexpr std::int64_t kFlush = 65535;  // users a 16-bit counter can hold
constexpr std::int64_t kTile = 64;      // 64 x 64 floats: a tile and its mirror image stay in L1

// The rows of the users ahead come from all over memory: without this their latency is half the time.
PYREC_INLINE void fetch_ahead(const Csr& x, const Occurrence* at, const Occurrence* end) {
    if (at + kAhead >= end) return;
    const std::int32_t* row = x.indices + x.indptr[at[kAhead].row] + at[kAhead].place;
    __builtin_prefetch(row);
    __builtin_prefetch(row + 16);
}

// counts[j] += number of these users who have item j, for j from the shared item on.
// Half the bytes of a float: a row of 20,000 items nearly fits the first-level cache.
PYREC_CLONES void count_users(const Csr& x, const Occurrence* at, const Occurrence* end,
                              std::uint16_t* counts) {
    for (; at < end; ++at) {
        fetch_ahead(x, at, end);
        const std::int32_t* j = x.indices + x.indptr[at->row] + at->place;
        const std::int32_t* const last = x.indices + x.indptr[at->row + 1];
        for (; j + 4 <= last; j += 4) {
            ++counts[j[0]];
            ++counts[j[1]];
            ++counts[j[2]];
            ++counts[j[3]];
        }
        for (; j < last; ++j) ++counts[*j];
    }
}

template <class T> void add_users(const Csr& x, const Occurrence* at, const Occurrence* end, T* sums) {
    for (; at < end; ++at) {
        fetch_ahead(x, at, end);
        const std::int64_t first = x.indptr[at->row] + at->place;
        const T value = x.values[first];
        for (std::int64_t q = first; q < x.indptr[at->row + 1]; ++q)
            sums[x.indices[q]] += value * static_cast<T>(x.values[q]);
    }
}

template <class T>
void count_row(const Csr& x, const Transposed& t, std::int64_t i, std::uint16_t* counts, T* out) {
    const Occurrence* at = t.where.data() + t.begin[static_cast<std::size_t>(i)];
    const Occurrence* const end = t.where.data() + t.begin[static_cast<std::size_t>(i) + 1];
    std::fill(out, out + x.cols, T(0));
    while (at < end) {
        const Occurrence* const stop = end - at > kFlush ? at + kFlush : end;
        std::memset(counts + i, 0, static_cast<std::size_t>(x.cols - i) * sizeof *counts);
        count_users(x, at, stop, counts);
        for (std::int64_t j = i; j < x.cols; ++j) out[j] += static_cast<T>(counts[j]);
        at = stop;
    }
}

bool all_ones(const Csr& x) {
    const float* const end = x.values + x.indptr[x.rows];
    return std::all_of(x.values, end, [](float v) { return v == 1.0f; });
}

}  // namespace

template <class T> void mirror_upper(Matrix<T> a, int n_threads) {
    parallel_for(a.rows, kTile, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t left = 0; left < end; left += kTile)
            for (std::int64_t i = begin; i < end; ++i)
                for (std::int64_t j = left; j < std::min(i, left + kTile); ++j) a.row(i)[j] = a.row(j)[i];
    });
}

template <class T> void gram(const Csr& x, Matrix<T> out, bool mirror, int n_threads) {
    const Transposed t = transpose(x);
    const bool binary = all_ones(x);
    parallel_for(x.cols, kItems, n_threads, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::uint16_t> counts(binary ? static_cast<std::size_t>(x.cols) : 0);
        for (std::int64_t i = begin; i < end; ++i) {
            if (binary) {
                count_row(x, t, i, counts.data(), out.row(i));
                continue;
            }
            std::fill(out.row(i), out.row(i) + x.cols, T(0));
            const Occurrence* const where = t.where.data();
            add_users(x, where + t.begin[static_cast<std::size_t>(i)],
                      where + t.begin[static_cast<std::size_t>(i) + 1], out.row(i));
        }
    });
    if (mirror) mirror_upper(out, n_threads);
}

template void gram(const Csr&, Matrix<float>, bool, int);
template void gram(const Csr&, Matrix<double>, bool, int);
template void mirror_upper(Matrix<float>, int);
template void mirror_upper(Matrix<double>, int);

}  // namespace pyrec
