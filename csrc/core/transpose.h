#pragma once
#include <vector>

#include "core/view.h"

namespace pyrec {

// Where an item occurs: at which place of which row.
struct Occurrence {
    std::int32_t row, place;
};

struct Transposed {
    std::vector<std::int64_t> begin;  // per item, into where
    std::vector<Occurrence> where;    // rows ascending within an item
};

template <class T> Transposed transpose(const BasicCsr<T>& x) {
    const std::int64_t nnz = x.indptr[x.rows];
    Transposed t{std::vector<std::int64_t>(static_cast<std::size_t>(x.cols) + 2, 0),
                 std::vector<Occurrence>(static_cast<std::size_t>(nnz))};
    // Counted two places on and summed, begin[i + 1] is where item i's next entry goes; when all
    // are placed it has become the beginning of item i + 1, as it should be.
    for (std::int64_t q = 0; q < nnz; ++q) ++t.begin[static_cast<std::size_t>(x.indices[q]) + 2];
    for (std::size_t i = 2; i < t.begin.size(); ++i) t.begin[i] += t.begin[i - 1];
    for (std::int64_t u = 0; u < x.rows; ++u)
        for (std::int64_t q = x.indptr[u]; q < x.indptr[u + 1]; ++q)
            t.where[static_cast<std::size_t>(t.begin[static_cast<std::size_t>(x.indices[q]) + 1]++)] = {
                static_cast<std::int32_t>(u), static_cast<std::int32_t>(q - x.indptr[u])};
    return t;
}

}  // namespace pyrec
