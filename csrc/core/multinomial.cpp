#include "core/multinomial.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/isa.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

// Rows a task. Every row stands alone, so that this may depend on the number of threads: few tasks
// need working space few times.
std::int64_t rows_of_task(std::int64_t rows, int n_threads) {
    return std::max<std::int64_t>(1, rows / 8 / n_threads);
}

// Logits that are widened and masked at a time, in the first-level cache; their sum is kept in T and
// added up in double, so that a catalogue of millions loses no digits.
constexpr std::int64_t kBlock = 1024;

template <class T> constexpr T kNothing = -std::numeric_limits<T>::infinity();

struct LogSumExp {
    double max, sum;
    double value() const { return sum > 0 || std::isnan(sum) ? max + std::log(sum) : kNothing<double>; }
};

// The logits of a block as T, -inf where masked: in place where nothing has to be changed.
template <class T>
PYREC_INLINE const T* block_of(const T* x, const std::uint8_t* mask, std::int64_t n, T* buffer) {
    if (!mask) return x;
#pragma omp simd
    for (std::int64_t j = 0; j < n; ++j) buffer[j] = mask[j] ? kNothing<T> : x[j];
    return buffer;
}

PYREC_INLINE const float* block_of(const Bf16* x, const std::uint8_t* mask, std::int64_t n, float* buffer) {
    if (mask) {
#pragma omp simd
        for (std::int64_t j = 0; j < n; ++j) buffer[j] = mask[j] ? kNothing<float> : widen(x[j]);
    } else {
#pragma omp simd
        for (std::int64_t j = 0; j < n; ++j) buffer[j] = widen(x[j]);
    }
    return buffer;
}

// Keeps exp(logits - shift) in `exps`, one shift a block, unless `exps` is null. Fetches the row `next`
// meanwhile, unless it is null: this pass computes, that row's would wait for memory.
template <class S, class T> PYREC_INLINE LogSumExp log_sum_exp(const S* logits, const std::uint8_t* mask,
                                                               std::int64_t n, const S* next, T* exps,
                                                               T* shifts) {
    alignas(64) T buffer[kBlock];
    LogSumExp total{kNothing<double>, 0.0};
    for (std::int64_t begin = 0; begin < n; begin += kBlock) {
        const std::int64_t size = std::min(kBlock, n - begin);
        if (next)
            for (std::int64_t j = begin; j < begin + size; j += 64 / static_cast<std::int64_t>(sizeof(S)))
                __builtin_prefetch(next + j, 0, 2);
        const T* x = block_of(logits + begin, mask ? mask + begin : nullptr, size, buffer);
        T max = kNothing<T>;
#pragma omp simd reduction(max : max)
        for (std::int64_t j = 0; j < size; ++j) max = x[j] > max ? x[j] : max;
        if (max > total.max) {
            total.sum *= std::exp(total.max - max);
            total.max = max;
        }
        if (total.max == kNothing<double>) {  // -inf - -inf is no number; a NaN must stay one
            for (std::int64_t j = 0; j < size; ++j) {
                if (std::isnan(x[j])) total.sum = x[j];
                if (exps) exps[begin + j] = 0;
            }
            if (exps) shifts[begin / kBlock] = kNothing<T>;
            continue;
        }
        const T shift = static_cast<T>(total.max);
        T sum = 0;
        if (exps) {
            shifts[begin / kBlock] = shift;
#pragma omp simd reduction(+ : sum)
            for (std::int64_t j = 0; j < size; ++j) sum += exps[begin + j] = exponential(x[j] - shift);
        } else {
#pragma omp simd reduction(+ : sum)
            for (std::int64_t j = 0; j < size; ++j) sum += exponential(x[j] - shift);
        }
        total.sum += sum;
    }
    return total;
}

// grad = k * exp(logits - lse) - scale * x (x may be null), 0 where masked.
template <class S, class T> PYREC_INLINE void softmax_gradient(const S* logits, const std::uint8_t* mask,
                                                               const T* x, std::int64_t n, T lse, T k,
                                                               T scale, S* grad) {
    if (x) {
#pragma omp simd
        for (std::int64_t j = 0; j < n; ++j)
            narrow(k * exponential(widen(logits[j]) - lse) - scale * x[j], grad[j]);
    } else {
#pragma omp simd
        for (std::int64_t j = 0; j < n; ++j) narrow(k * exponential(widen(logits[j]) - lse), grad[j]);
    }
    for (std::int64_t j = 0; mask && j < n; ++j)
        if (mask[j]) narrow(T{0}, grad[j]);
}

// The same from what log_sum_exp kept: no second exponential.
template <class S, class T> PYREC_INLINE void kept_gradient(const T* exps, const T* shifts,
                                                            const std::uint8_t* mask, const T* x,
                                                            std::int64_t n, T lse, T k, T scale, S* grad) {
    for (std::int64_t begin = 0; begin < n; begin += kBlock) {
        const std::int64_t end = std::min(begin + kBlock, n);
        const T factor = k * std::exp(shifts[begin / kBlock] - lse);
        if (x) {
#pragma omp simd
            for (std::int64_t j = begin; j < end; ++j) narrow(factor * exps[j] - scale * x[j], grad[j]);
        } else {
#pragma omp simd
            for (std::int64_t j = begin; j < end; ++j) narrow(factor * exps[j], grad[j]);
        }
        for (std::int64_t j = begin; mask && j < end; ++j)
            if (mask[j]) narrow(T{0}, grad[j]);
    }
}

// The passes for each type, multiversioned: attributes cannot be put on templates.
#define PYREC_LEAVES(CLONES, S, T)                                                                          \
    CLONES LogSumExp lse_leaf(const S* logits, const std::uint8_t* mask, std::int64_t n, const S* next,     \
                              T* exps, T* shifts) {                                                         \
        return log_sum_exp<S, T>(logits, mask, n, next, exps, shifts);                                      \
    }                                                                                                       \
    CLONES void gradient_leaf(const S* logits, const std::uint8_t* mask, const T* x, std::int64_t n, T lse, \
                              T k, T scale, S* grad) {                                                      \
        softmax_gradient<S, T>(logits, mask, x, n, lse, k, scale, grad);                                    \
    }                                                                                                       \
    CLONES void kept_leaf(const T* exps, const T* shifts, const std::uint8_t* mask, const T* x,             \
                          std::int64_t n, T lse, T k, T scale, S* grad) {                                   \
        kept_gradient<S, T>(exps, shifts, mask, x, n, lse, k, scale, grad);                                 \
    }
PYREC_LEAVES(PYREC_CLONES, float, float)
PYREC_LEAVES(PYREC_CLONES, Bf16, float)
PYREC_LEAVES(, double, double)
#undef PYREC_LEAVES

// Calls f(item, x) for each target of a row that takes part.
template <class T, class F>
void for_targets(const Targets<T>& x, const std::uint8_t* mask, std::int64_t b, F f) {
    if (x.indptr) {
        for (std::int64_t q = x.indptr[b]; q < x.indptr[b + 1]; ++q)
            if (!mask || !mask[x.indices[q]]) f(x.indices[q], x.values[q]);
    } else {
        const T* row = x.values + b * x.cols;
        for (std::int64_t j = 0; j < x.cols; ++j)
            if (row[j] != 0 && (!mask || !mask[j])) f(j, row[j]);
    }
}

template <class T> double total_of(const Targets<T>& x, const std::uint8_t* mask, std::int64_t b) {
    double total = 0;
    for_targets(x, mask, b, [&](std::int64_t, T value) { total += value; });
    return total;
}

template <class S, class T>
T loss_of(const S* logits, const Targets<T>& x, const std::uint8_t* mask, std::int64_t b, double lse) {
    double loss = 0;
    for_targets(x, mask, b, [&](std::int64_t j, T count) { loss += count * (lse - widen(logits[j])); });
    return static_cast<T>(loss);
}

template <class S, class T> void backward_row(const S* logits, const Targets<T>& x, const std::uint8_t* mask,
                                              std::int64_t b, T lse, T scale, S* grad,
                                              std::vector<T>& at_targets) {
    const T k = static_cast<T>(scale * total_of(x, mask, b));
    if (!x.indptr) {
        gradient_leaf(logits, mask, x.values + b * x.cols, x.cols, lse, k, scale, grad);
        return;
    }
    at_targets.clear();  // read before their logits are overwritten
    for_targets(x, mask, b, [&](std::int64_t j, T count) {
        at_targets.push_back(k * exponential(widen(logits[j]) - lse) - scale * count);
    });
    gradient_leaf(logits, mask, static_cast<const T*>(nullptr), x.cols, lse, k, scale, grad);
    auto value = at_targets.begin();
    for_targets(x, mask, b, [&](std::int64_t j, T) { narrow(*value++, grad[j]); });
}

// Working space of multinomial_in_place, one a task.
template <class T> struct Kept {
    std::vector<T> exps, shifts;
    explicit Kept(std::int64_t n)
        : exps(static_cast<std::size_t>(n)), shifts(static_cast<std::size_t>(n / kBlock + 1)) {}
};

template <class S, class T> T in_place_row(S* row, const Targets<T>& x, const std::uint8_t* mask,
                                           std::int64_t b, T scale, const S* next, Kept<T>& kept) {
    T *const exps = kept.exps.data(), *const shifts = kept.shifts.data();
    const double lse = lse_leaf(row, mask, x.cols, next, exps, shifts).value();
    const T loss = loss_of<S, T>(row, x, mask, b, lse), low = static_cast<T>(lse);
    const T k = static_cast<T>(scale * total_of(x, mask, b));
    const T* dense = x.indptr ? nullptr : x.values + b * x.cols;
    kept_leaf(exps, shifts, mask, dense, x.cols, low, k, scale, row);
    if (x.indptr)
        for_targets(x, mask, b, [&](std::int64_t j, T count) {
            narrow(k * std::exp(shifts[j / kBlock] - low) * exps[j] - scale * count, row[j]);
        });
    return loss;
}

}  // namespace

template <class S, class T> void multinomial_forward(Matrix<const S> logits, const Targets<T>& x,
                                                     const ItemMask& mask, Vector<T> loss, Vector<T> lse,
                                                     int n_threads) {
    parallel_for(logits.rows, rows_of_task(logits.rows, n_threads), n_threads,
                 [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t b = begin; b < end; ++b) {
                         const double value = lse_leaf(logits.row(b), mask.row(b), x.cols,
                                                       b + 1 < end ? logits.row(b + 1) : nullptr,
                                                       static_cast<T*>(nullptr), static_cast<T*>(nullptr))
                                                  .value();
                         loss[b] = loss_of(logits.row(b), x, mask.row(b), b, value);
                         lse[b] = static_cast<T>(value);
                     }
                 });
}

template <class S, class T> void multinomial_backward(Matrix<const S> logits, const Targets<T>& x,
                                                      const ItemMask& mask, Vector<const T> lse,
                                                      Vector<const T> scale, Matrix<S> grad, int n_threads) {
    parallel_for(logits.rows, rows_of_task(logits.rows, n_threads), n_threads,
                 [&](std::int64_t begin, std::int64_t end) {
                     std::vector<T> at_targets;
                     for (std::int64_t b = begin; b < end; ++b)
                         backward_row(logits.row(b), x, mask.row(b), b, lse[b], scale[b], grad.row(b),
                                      at_targets);
                 });
}

template <class S, class T> void multinomial_in_place(Matrix<S> logits, const Targets<T>& x,
                                                      const ItemMask& mask, T scale, Vector<T> loss,
                                                      int n_threads) {
    parallel_for(logits.rows, rows_of_task(logits.rows, n_threads), n_threads,
                 [&](std::int64_t begin, std::int64_t end) {
                     Kept<T> kept(x.cols);
                     for (std::int64_t b = begin; b < end; ++b)
                         loss[b] = in_place_row<S, T>(logits.row(b), x, mask.row(b), b, scale,
                                                      b + 1 < end ? logits.row(b + 1) : nullptr, kept);
                 });
}

#define PYREC_INSTANTIATE(S, T)                                                                              \
    template void multinomial_forward(Matrix<const S>, const Targets<T>&, const ItemMask&, Vector<T>,        \
                                      Vector<T>, int);                                                       \
    template void multinomial_backward(Matrix<const S>, const Targets<T>&, const ItemMask&, Vector<const T>, \
                                       Vector<const T>, Matrix<S>, int);                                     \
    template void multinomial_in_place(Matrix<S>, const Targets<T>&, const ItemMask&, T, Vector<T>, int);
PYREC_INSTANTIATE(float, float)
PYREC_INSTANTIATE(double, double)
PYREC_INSTANTIATE(Bf16, float)

}  // namespace pyrec
