#pragma once
// The only place where a Python object becomes a core view. Every check and every message lives here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <limits>
#include <string>

#include "core/view.h"

namespace pyrec {

namespace py = pybind11;

[[noreturn]] inline void fail(const std::string& message) { throw py::value_error(message); }

inline void require(bool ok, const std::string& message) {
    if (!ok) fail(message);
}

template <class T> T* checked_data(const py::array& a, int ndim, const char* name) {
    using Item = std::remove_const_t<T>;
    if (!py::isinstance<py::array_t<Item, py::array::c_style>>(a) || a.ndim() != ndim)
        throw py::type_error(
            std::string(name) + " must be a C-contiguous " + std::string(py::str(py::dtype::of<Item>())) +
            " array with " + std::to_string(ndim) + (ndim == 1 ? " dimension" : " dimensions") + ", got " +
            std::string(py::str(a.dtype())) + " of shape " + std::string(py::str(a.attr("shape"))));
    if constexpr (std::is_const_v<T>) {
        return static_cast<T*>(a.data());
    } else {
        require(a.writeable(), std::string(name) + " must be writable, got a read-only array");
        return static_cast<T*>(const_cast<void*>(a.data()));
    }
}

template <class T> Vector<T> vector(const py::array& a, const char* name) {
    return {checked_data<T>(a, 1, name), a.shape(0)};
}

template <class T> Matrix<T> matrix(const py::array& a, const char* name) {
    return {checked_data<T>(a, 2, name), a.shape(0), a.shape(1)};
}

template <class T> Matrix<T> square_matrix(const py::array& a, const char* name) {
    const auto m = matrix<T>(a, name);
    require(m.rows == m.cols, std::string(name) + " must be square, got shape (" + std::to_string(m.rows) +
                                  ", " + std::to_string(m.cols) + ")");
    return m;
}

// Offsets that rise from 0 to `size`.
inline void check_offsets(const Vector<const std::int64_t>& indptr, std::int64_t size,
                          const std::string& name) {
    const std::int64_t rows = indptr.size - 1;
    require(rows >= 0 && indptr[0] == 0 && indptr[rows] == size,
            name + " must start at 0 and end at " + std::to_string(size));
    for (std::int64_t r = 0; r < rows; ++r)
        if (indptr[r] > indptr[r + 1] || indptr[r + 1] > size)
            fail(name + " must not decrease, but it does after row " + std::to_string(r));
}

inline Vector<const std::int64_t> offsets(const py::array& indptr, std::int64_t size,
                                          const std::string& name) {
    const auto p = vector<const std::int64_t>(indptr, name.c_str());
    check_offsets(p, size, name);
    return p;
}

// Offsets that divide the indices; items of a row ascending, distinct, in range.
inline void check_lists(const Vector<const std::int64_t>& indptr, const Vector<const std::int32_t>& indices,
                        std::int64_t n_items, const std::string& name) {
    check_offsets(indptr, indices.size, name + ".indptr");
    const std::int64_t rows = indptr.size - 1;
    for (std::int64_t r = 0; r < rows; ++r) {
        std::int64_t before = -1;
        for (std::int64_t q = indptr[r]; q < indptr[r + 1]; ++q) {
            const std::int64_t item = indices[q];
            if (item > before && item < n_items) {
                before = item;
                continue;
            }
            if (item < 0 || item >= n_items)
                fail(name + ".indices must be in 0.." + std::to_string(n_items - 1) + ", but row " +
                     std::to_string(r) + " holds " + std::to_string(item));
            fail(name + ".indices must ascend within a row without duplicates, but row " + std::to_string(r) +
                 " holds " + std::to_string(item) + " after " + std::to_string(before));
        }
    }
}

template <class T = float> BasicCsr<T> csr(const py::array& indptr, const py::array& indices,
                                           const py::array& values, std::int64_t n_items,
                                           const std::string& name) {
    const auto p = vector<const std::int64_t>(indptr, (name + ".indptr").c_str());
    const auto i = vector<const std::int32_t>(indices, (name + ".indices").c_str());
    const auto v = vector<const T>(values, (name + ".data").c_str());
    check_lists(p, i, n_items, name);
    require(p.size - 1 <= std::numeric_limits<std::int32_t>::max(),
            name + " must have fewer than 2^31 rows, got " + std::to_string(p.size - 1));
    require(i.size == v.size, name + ".indices and " + name + ".data must have the same length, got " +
                                  std::to_string(i.size) + " and " + std::to_string(v.size));
    return {p.size - 1, n_items, p.data, i.data, v.data};
}

// None, (None, items): one list for all rows, or (indptr, items): a list a row.
inline ItemLists item_lists(const py::object& lists, std::int64_t rows, std::int64_t n_items,
                            const std::string& name) {
    if (lists.is_none()) return {};
    const auto pair = lists.cast<py::tuple>();
    const auto i = vector<const std::int32_t>(pair[1].cast<py::array>(), (name + ".indices").c_str());
    if (pair[0].is_none()) {
        const std::int64_t whole[] = {0, i.size};
        check_lists({whole, 2}, i, n_items, name);
        return {true, nullptr, i.data, i.size};
    }
    const auto p = vector<const std::int64_t>(pair[0].cast<py::array>(), (name + ".indptr").c_str());
    check_lists(p, i, n_items, name);
    require(p.size - 1 == rows, name + " must have a row for each of the " + std::to_string(rows) +
                                    " rows, got " + std::to_string(p.size - 1));
    return {true, p.data, i.data, i.size};
}

}  // namespace pyrec
