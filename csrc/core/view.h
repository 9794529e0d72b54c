#pragma once
#include <cstdint>

#include "core/isa.h"

namespace pyrec {

// Borrowed, row-major, dense memory. Never owns, never checks: the binding did.
template <class T> struct Vector {
    T* data;
    std::int64_t size;
    PYREC_INLINE T& operator[](std::int64_t i) const { return data[i]; }
};

template <class T> struct Matrix {
    T* data;
    std::int64_t rows, cols;
    PYREC_INLINE T* row(std::int64_t i) const { return data + i * cols; }
};

// Borrowed CSR: row i owns the entries indptr[i] .. indptr[i + 1] of indices and values.
// The binding made sure that offsets are monotone and that items ascend within a row.
template <class T> struct BasicCsr {
    std::int64_t rows, cols;
    const std::int64_t* indptr;
    const std::int32_t* indices;
    const T* values;
};
using Csr = BasicCsr<float>;

// A list of items a row, ascending; or one list that holds for every row (indptr is null);
// or none at all (present is false).
struct ItemLists {
    bool present = false;
    const std::int64_t* indptr = nullptr;
    const std::int32_t* indices = nullptr;
    std::int64_t size = 0;

    PYREC_INLINE const std::int32_t* begin(std::int64_t row) const {
        return indptr ? indices + indptr[row] : indices;
    }
    PYREC_INLINE const std::int32_t* end(std::int64_t row) const {
        return indptr ? indices + indptr[row + 1] : indices + size;
    }
};

}  // namespace pyrec
