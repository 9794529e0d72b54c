#pragma once
#include "core/multinomial.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As in core/multinomial.h. A block of threads has a row; its targets' items ascend. The same bits in
// every run, and for a row whatever the others are.

// Reads the logits once.
template <class S, class T> void multinomial_forward(const Queue& queue, Matrix<const S> logits,
                                                     const Targets<T>& x, const ItemMask& mask,
                                                     Vector<T> loss, Vector<T> lse);

template <class S, class T>
void multinomial_backward(const Queue& queue, Matrix<const S> logits, const Targets<T>& x,
                          const ItemMask& mask, Vector<const T> lse, Vector<const T> scale, Matrix<S> grad);

// Reads the logits twice, a row right after its first time, when the second-level cache may still have it.
template <class S, class T> void multinomial_in_place(const Queue& queue, Matrix<S> logits,
                                                      const Targets<T>& x, const ItemMask& mask, T scale,
                                                      Vector<T> loss);

}  // namespace pyrec::cuda
