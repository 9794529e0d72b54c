#pragma once
// What the parts of the module share: each registers its kernels.
#include <string>

#include "core/blas.h"
#include "python/numpy_view.h"

namespace pyrec {

void bind_solvers(py::module_& m);   // gram, spd_inverse, ease_weights
void bind_rankings(py::module_& m);  // the forms of topk, ranking
void bind_networks(py::module_& m);  // sparse_linear, multinomial
void bind_samplers(py::module_& m);  // permutations, rows of a batch, dense rows to sparse ones
void bind_examples(py::module_& m);  // conditioned examples, negatives, windows of sequences

inline int threads(int n_threads) {
    require(n_threads >= 1, "n_threads must be at least 1, got " + std::to_string(n_threads));
    return n_threads;
}

template <class T>
void require_shape(const Matrix<T>& m, std::int64_t rows, std::int64_t cols, const std::string& name) {
    require(m.rows == rows && m.cols == cols, name + " must have shape (" + std::to_string(rows) + ", " +
                                                  std::to_string(cols) + "), got (" + std::to_string(m.rows) +
                                                  ", " + std::to_string(m.cols) + ")");
}

template <class T>
Vector<const T> item_offset(const py::object& offset, std::int64_t n_items, const std::string& name) {
    if (offset.is_none()) return {nullptr, 0};
    const auto o = vector<const T>(offset.cast<py::array>(), name.c_str());
    require(o.size == n_items, name + " must have an entry for each of the " + std::to_string(n_items) +
                                   " items, got " + std::to_string(o.size));
    return o;
}

// SciPy's Cython modules export each BLAS routine as a capsule whose name is its C signature.
template <class F> F routine(const py::dict& api, const std::string& name) {
    require(api.contains(name), "scipy.linalg does not export the routine " + name);
    const auto capsule = api[name.c_str()].cast<py::capsule>();
    require(std::string(capsule.name()).find(" int *") != std::string::npos,
            "scipy.linalg's " + name + " does not take 32-bit integers: " + capsule.name());
    return reinterpret_cast<F>(capsule.get_pointer<void>());
}

template <class T> Blas<T> borrow(const py::dict& blas, const py::dict& lapack) {
    const std::string p = std::is_same_v<T, float> ? "s" : "d";
    return {routine<decltype(Blas<T>::potrf)>(lapack, p + "potrf"),
            routine<decltype(Blas<T>::potri)>(lapack, p + "potri"),
            routine<decltype(Blas<T>::syrk)>(blas, p + "syrk"),
            routine<decltype(Blas<T>::gemm)>(blas, p + "gemm"),
            routine<decltype(Blas<T>::trsm)>(blas, p + "trsm")};
}

}  // namespace pyrec
