#include <type_traits>

#include "core/gram.h"
#include "core/solve.h"
#include "python/bindings.h"

namespace pyrec {
namespace {

using namespace py::literals;

template <class T> void bind_gram(py::module_& m) {
    m.def(
        "gram",
        [](const py::array& indptr, const py::array& indices, const py::array& values,
           const py::array_t<T>& out, bool mirror, int n_threads) {
            const auto g = square_matrix<T>(out, "out");
            const auto x = csr(indptr, indices, values, g.cols, "x");
            threads(n_threads);
            py::gil_scoped_release nogil;
            gram(x, g, mirror, n_threads);
        },
        "indptr"_a, "indices"_a, "values"_a, "out"_a.noconvert(), "mirror"_a, "n_threads"_a);
}

template <class T> void bind_spd_inverse(py::module_& m) {
    m.def(
        "spd_inverse",
        [](const py::array_t<T>& a, std::int64_t block, bool mirror, const py::dict& blas,
           const py::dict& lapack, int n_threads) {
            const auto view = square_matrix<T>(a, "a");
            const Blas<T> routines = borrow<T>(blas, lapack);
            threads(n_threads);
            py::gil_scoped_release nogil;
            const std::int64_t info = spd_inverse(view, block, routines, n_threads);
            if (info == 0 && mirror) mirror_upper(view, n_threads);
            return info;
        },
        "a"_a.noconvert(), "block"_a, "mirror"_a, "blas"_a, "lapack"_a, "n_threads"_a);
}

void bind_ease_weights(const py::array& p, int n_threads) {
    const auto view = square_matrix<float>(p, "p");
    threads(n_threads);
    py::gil_scoped_release nogil;
    ease_weights(view, n_threads);
}

}  // namespace

void bind_solvers(py::module_& m) {
    bind_gram<float>(m);
    bind_gram<double>(m);
    bind_spd_inverse<float>(m);
    bind_spd_inverse<double>(m);
    m.def("ease_weights", &bind_ease_weights, "p"_a, "n_threads"_a);
}

}  // namespace pyrec
