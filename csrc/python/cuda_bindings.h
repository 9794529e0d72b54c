#pragma once
// How addresses on a device become the core's views. `pyrec.kernels.gpu` has checked what it passes:
// types, shapes, contiguity, that all is on one device.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>
#include <type_traits>

#include "core/view.h"
#include "cuda/device.h"

namespace pyrec::cuda {

namespace py = pybind11;

// As Python passes them; an address of 0 stands for nothing.
using Address = std::uintptr_t;
using VectorAt = std::tuple<Address, std::int64_t>;                               // address, size
using MatrixAt = std::tuple<Address, std::int64_t, std::int64_t>;                 // address, rows, columns
using CsrAt = std::tuple<std::int64_t, std::int64_t, Address, Address, Address>;  // rows, columns, parts
using ListsAt = std::tuple<bool, Address, Address, std::int64_t>;                 // ItemLists
using QueueAt = std::tuple<int, Address>;                                         // device, stream

void bind_networks(py::module_& m);  // likelihood, sparse layers
void bind_rankings(py::module_& m);  // top-k, scores of sparse weights, ranking
void bind_samplers(py::module_& m);  // rows, conditions, negatives, windows
void bind_solvers(py::module_& m);   // gram, ADMM

template <class T> T* at(Address address) { return reinterpret_cast<T*>(address); }

template <class T> Vector<T> vector(const VectorAt& v) { return {at<T>(std::get<0>(v)), std::get<1>(v)}; }

template <class T> Matrix<T> matrix(const MatrixAt& m) {
    return {at<T>(std::get<0>(m)), std::get<1>(m), std::get<2>(m)};
}

template <class T = float> BasicCsr<T> csr(const CsrAt& x) {
    return {std::get<0>(x), std::get<1>(x), at<const std::int64_t>(std::get<2>(x)),
            at<const std::int32_t>(std::get<3>(x)), at<const T>(std::get<4>(x))};
}

inline ItemLists item_lists(const ListsAt& l) {
    return {std::get<0>(l), at<const std::int64_t>(std::get<1>(l)), at<const std::int32_t>(std::get<2>(l)),
            std::get<3>(l)};
}

// Binds a function for arrays of S, which its name says: an address has no type. It runs without the GIL.
template <class S, class Function, class... Names>
void def(py::module_& m, const char* name, Function function, const Names&... names) {
    const char* const type = std::is_same_v<S, float>    ? "_float32"
                             : std::is_same_v<S, double> ? "_float64"
                                                         : "_bfloat16";
    m.def((std::string(name) + type).c_str(), function, names..., py::call_guard<py::gil_scoped_release>());
}

inline Queue queue(const QueueAt& q) {
    return {std::get<0>(q), at<std::remove_pointer_t<cudaStream_t>>(std::get<1>(q))};
}

}  // namespace pyrec::cuda
