#pragma once
#include "core/view.h"

namespace pyrec {

// A CSR batch of the rows `numbers` of x, in that order; indptr (numbers.size + 1) is given, and
// items and values have room for indptr's last entry. A row's entries move as they are.
void take_rows(const Csr& x, Vector<const std::int64_t> numbers, Vector<const std::int64_t> indptr,
               Vector<std::int32_t> items, Vector<float> values, int n_threads);

// The same rows as a dense matrix, all of it written.
void take_rows_dense(const Csr& x, Vector<const std::int64_t> numbers, Matrix<float> out, int n_threads);

// A dense matrix to CSR in two passes: the number of non-zeros of each row, then the entries.
template <class T> void count_nonzeros(Matrix<const T> x, Vector<std::int64_t> counts, int n_threads);
template <class T> void take_nonzeros(Matrix<const T> x, Vector<const std::int64_t> indptr,
                                      Vector<std::int32_t> items, Vector<T> values, int n_threads);

}  // namespace pyrec
