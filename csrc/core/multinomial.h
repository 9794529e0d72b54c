#pragma once
#include "core/vecmath.h"
#include "core/view.h"

namespace pyrec {

// Target counts x: sparse rows, or (indptr is null) a dense matrix.
template <class T> struct Targets {
    const std::int64_t* indptr;
    const std::int32_t* indices;
    const T* values;
    std::int64_t cols;
};

// Items that take no part, one byte an item: a row a user, the same row for all (stride 0), or none.
struct ItemMask {
    const std::uint8_t* data = nullptr;
    std::int64_t stride = 0;

    const std::uint8_t* row(std::int64_t b) const { return data ? data + b * stride : nullptr; }
};

// S is the type of the logits: float, double or Bf16; T that of targets and results: float or double.
//
// loss[b] = sum_j x[b,j] * (lse[b] - logits[b,j]),   lse[b] = log sum_j exp(logits[b,j])
//
// over the items j that take part. Each row is summed by one thread, block by block in a fixed
// order: the same bits for any n_threads.
template <class S, class T> void multinomial_forward(Matrix<const S> logits, const Targets<T>& x,
                                                     const ItemMask& mask, Vector<T> loss, Vector<T> lse,
                                                     int n_threads);

// grad[b,j] = scale[b] * (exp(logits[b,j] - lse[b]) * sum_i x[b,i] - x[b,j]), 0 where masked;
// `grad` may be `logits` itself.
template <class S, class T> void multinomial_backward(Matrix<const S> logits, const Targets<T>& x,
                                                      const ItemMask& mask, Vector<const T> lse,
                                                      Vector<const T> scale, Matrix<S> grad, int n_threads);

// Both for a scale that is known beforehand: the gradient takes the place of the logits while the
// row is still in the cache.
template <class S, class T> void multinomial_in_place(Matrix<S> logits, const Targets<T>& x,
                                                      const ItemMask& mask, T scale, Vector<T> loss,
                                                      int n_threads);

}  // namespace pyrec
