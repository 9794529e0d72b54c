#include "core/sparse_linear.h"

#include <algorithm>

#include "core/isa.h"
#include "core/parallel.h"
#include "core/transpose.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 16;    // rows of x a task
constexpr std::int64_t kItems = 256;  // rows of the weights' gradient a task

// The leaves, multiversioned for float; double serves the checks of gradients.
#define PYREC_LEAVES(CLONES, T)                                                                         \
    /* y += sum of four scaled rows: y goes through the cache once for all four. */                     \
    CLONES void add_rows(const T* const* rows, const T* scale, std::int64_t n, T* y) {                  \
        const T *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];                                 \
        const T p = scale[0], q = scale[1], r = scale[2], s = scale[3];                                 \
        _Pragma("omp simd") for (std::int64_t j = 0; j < n; ++j) y[j] +=                                \
            (p * a[j] + q * b[j]) + (r * c[j] + s * d[j]);                                              \
    }                                                                                                   \
    CLONES void add_row(const T* row, T scale, std::int64_t n, T* y) {                                  \
        _Pragma("omp simd") for (std::int64_t j = 0; j < n; ++j) y[j] += scale * row[j];                \
    }                                                                                                   \
    CLONES T dot(const T* a, const T* b, std::int64_t n) {                                              \
        T sum = 0;                                                                                      \
        _Pragma("omp simd reduction(+ : sum)") for (std::int64_t j = 0; j < n; ++j) sum += a[j] * b[j]; \
        return sum;                                                                                     \
    }
PYREC_LEAVES(PYREC_CLONES, float)
PYREC_LEAVES(, double)
#undef PYREC_LEAVES

// y += sum over q in [begin, end) of value(q) * row(q)
template <class T, class Row, class Value>
void add_all(std::int64_t begin, std::int64_t end, Row row, Value value, std::int64_t n, T* y) {
    std::int64_t q = begin;
    for (; q + 4 <= end; q += 4) {
        const T* rows[4];
        T values[4];
        for (int z = 0; z < 4; ++z) {
            rows[z] = row(q + z);
            values[z] = value(q + z);
        }
        add_rows(rows, values, n, y);
    }
    for (; q < end; ++q) add_row(row(q), value(q), n, y);
}

template <class T> void begin_row(Vector<const T> offset, std::int64_t n, T* y) {
    if (offset.data) std::copy(offset.data, offset.data + offset.size, y);
    else std::fill(y, y + n, T{0});
}

template <class T> void product_row(const BasicCsr<T>& x, std::int64_t u, Matrix<const T> weights,
                                    Vector<const T> offset, T* y) {
    begin_row(offset, weights.cols, y);
    add_all(
        x.indptr[u], x.indptr[u + 1], [&](std::int64_t q) { return weights.row(x.indices[q]); },
        [&](std::int64_t q) { return x.values[q]; }, weights.cols, y);
}

}  // namespace

void sparse_row(const Csr& x, std::int64_t u, Matrix<const float> weights, Vector<const float> offset,
                float* y) {
    product_row(x, u, weights, offset, y);
}

void sparse_row(const Csr& x, std::int64_t u, const Csr& weights, Vector<const float> offset, float* y) {
    begin_row(offset, weights.cols, y);
    for (std::int64_t q = x.indptr[u]; q < x.indptr[u + 1]; ++q) {
        const float value = x.values[q];
        const std::int64_t end = weights.indptr[x.indices[q] + 1];
        for (std::int64_t e = weights.indptr[x.indices[q]]; e < end; ++e)
            y[weights.indices[e]] += value * weights.values[e];
    }
}

void sparse_product(const Csr& x, const Csr& weights, Vector<const float> offset, Matrix<float> out,
                    int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) sparse_row(x, b, weights, offset, out.row(b));
    });
}

template <class T> void sparse_linear(const BasicCsr<T>& x, Matrix<const T> weights, Vector<const T> offset,
                                      Matrix<T> out, int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) product_row(x, b, weights, offset, out.row(b));
    });
}

template <class T> void sparse_linear_weight_grad(const BasicCsr<T>& x, Matrix<const T> out_grad,
                                                  Matrix<T> grad, int n_threads) {
    const Transposed t = transpose(x);
    parallel_for(grad.rows, kItems, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            T* const y = grad.row(i);
            std::fill(y, y + grad.cols, T{0});
            const Occurrence* where = t.where.data();
            add_all(
                t.begin[static_cast<std::size_t>(i)], t.begin[static_cast<std::size_t>(i) + 1],
                [&](std::int64_t q) { return out_grad.row(where[q].row); },
                [&](std::int64_t q) { return x.values[x.indptr[where[q].row] + where[q].place]; }, grad.cols,
                y);
        }
    });
}

template <class T> void sparse_linear_value_grad(const BasicCsr<T>& x, Matrix<const T> weights,
                                                 Matrix<const T> out_grad, Vector<T> grad, int n_threads) {
    parallel_for(x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b)
            for (std::int64_t q = x.indptr[b]; q < x.indptr[b + 1]; ++q)
                grad[q] = dot(out_grad.row(b), weights.row(x.indices[q]), weights.cols);
    });
}

#define PYREC_INSTANTIATE(T)                                                                                \
    template void sparse_linear(const BasicCsr<T>&, Matrix<const T>, Vector<const T>, Matrix<T>, int);      \
    template void sparse_linear_weight_grad(const BasicCsr<T>&, Matrix<const T>, Matrix<T>, int);           \
    template void sparse_linear_value_grad(const BasicCsr<T>&, Matrix<const T>, Matrix<const T>, Vector<T>, \
                                           int);
PYREC_INSTANTIATE(float)
PYREC_INSTANTIATE(double)

}  // namespace pyrec
