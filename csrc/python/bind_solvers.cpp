#include <cmath>
#include <vector>

#include "core/admm.h"
#include "core/gram.h"
#include "core/slim.h"
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

template <class T> py::array_t<T> array_of(const std::vector<T>& values) {
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

Vector<const std::int32_t> column_numbers(const py::array& columns, std::int64_t n_items) {
    const auto c = vector<const std::int32_t>(columns, "columns");
    for (std::int64_t i = 0; i < c.size; ++i)
        if (c[i] < 0 || c[i] >= n_items)
            fail("columns must be in 0.." + std::to_string(n_items - 1) + ", got " + std::to_string(c[i]));
    return c;
}

// Returns (indptr, indices, values) with a row a column, the gaps and the numbers of sweeps.
template <class T>
py::tuple bind_slim_columns(const py::array_t<T>& gram, const py::array& columns, const py::array& indptr,
                            const py::array& indices, const py::array& values, double lambda1, double lambda2,
                            bool nonnegative, double tolerance, std::int64_t max_sweeps, int n_threads) {
    const auto g = square_matrix<const T>(gram, "g");
    const auto c = column_numbers(columns, g.rows);
    const auto start = csr<T>(indptr, indices, values, g.rows, "start");
    require(start.rows == 0 || start.rows == c.size,
            "start must have a row for each of the columns, or none");
    require(lambda1 >= 0 && lambda2 >= 0 && std::isfinite(lambda1) && std::isfinite(lambda2),
            "lambda1 and lambda2 must be at least 0");
    threads(n_threads);
    std::vector<SlimColumn<T>> found;
    std::vector<std::int64_t> offsets{0}, sweeps;
    std::vector<std::int32_t> items;
    std::vector<T> weights;
    std::vector<double> gaps;
    {
        py::gil_scoped_release nogil;
        slim_columns(g, c, start, {lambda1, lambda2, nonnegative, tolerance, max_sweeps}, found, n_threads);
        for (const auto& column : found) {
            items.insert(items.end(), column.items.begin(), column.items.end());
            weights.insert(weights.end(), column.values.begin(), column.values.end());
            offsets.push_back(static_cast<std::int64_t>(items.size()));
            gaps.push_back(column.gap);
            sweeps.push_back(column.sweeps);
        }
    }
    return py::make_tuple(py::make_tuple(array_of(offsets), array_of(items), array_of(weights)),
                          array_of(gaps), array_of(sweeps));
}

// The memory of ItemPanels: `p` has n_items + the padding rows.
template <class T> ItemPanels<T> item_panels(const py::array& p, const char* name) {
    const auto m = matrix<T>(p, name);
    require(m.rows == ItemPanels<T>::padded_items(m.cols),
            std::string(name) + " must have " + std::to_string(ItemPanels<T>::padded_items(m.cols)) +
                " rows of " + std::to_string(m.cols) + " items, got " + std::to_string(m.rows));
    return {m.data, m.cols, m.cols};
}

template <class T> void bind_admm(py::module_& m) {
    // The rows that the memory of p needs, and those of a group of w's.
    m.def(
        "admm_rows",
        [](const py::array_t<T>& p, std::int64_t columns) {
            return py::make_tuple(ItemPanels<T>::padded_items(p.shape(0)),
                                  ItemPanels<T>::padded_rows(columns));
        },
        "p"_a.noconvert(), "columns"_a);
    m.def(
        "pack_inverse",
        [](const py::array_t<T>& p, int n_threads) {
            const auto panels = item_panels<T>(p, "p");
            threads(n_threads);
            py::gil_scoped_release nogil;
            panels.pack({panels.data, panels.n_items, panels.rank}, n_threads);
        },
        "p"_a.noconvert(), "n_threads"_a);
    m.def(
        "admm_step",
        [](const py::array_t<T>& p, const py::array& columns, double lambda1, double rho, double relaxation,
           bool nonnegative, const py::array& w, const py::array& d, const py::array& b,
           const py::array& residuals, int n_threads) {
            const auto panels = item_panels<T>(p, "p");
            const auto c = column_numbers(columns, panels.n_items);
            const auto state = matrix<T>(w, "w");
            const auto directions = matrix<T>(d, "d"), products = matrix<T>(b, "b");
            const auto left = vector<double>(residuals, "residuals");
            require_shape(state, c.size, panels.n_items, "w");
            require_shape(directions, panels.padded_rows(c.size), panels.n_items, "d");
            require_shape(products, panels.padded_rows(c.size), panels.stride(), "b");
            require(left.size == c.size, "residuals must have an entry for each of the columns");
            require(rho > 0 && std::isfinite(rho) && lambda1 >= 0,
                    "rho must be above 0 and lambda1 at least 0");
            threads(n_threads);
            const AdmmSettings<T> settings{static_cast<T>(rho), static_cast<T>(lambda1 / rho),
                                           static_cast<T>(relaxation), nonnegative};
            py::gil_scoped_release nogil;
            admm_step(panels, c, settings, state, directions.data, products.data, left, n_threads);
        },
        "p"_a.noconvert(), "columns"_a, "lambda1"_a, "rho"_a, "relaxation"_a, "nonnegative"_a, "w"_a, "d"_a,
        "b"_a, "residuals"_a, "n_threads"_a);
}

template <class T> void bind_slim(py::module_& m) {
    m.def("slim_columns", &bind_slim_columns<T>, "g"_a.noconvert(), "columns"_a, "indptr"_a, "indices"_a,
          "values"_a, "lambda1"_a, "lambda2"_a, "nonnegative"_a, "tolerance"_a, "max_sweeps"_a,
          "n_threads"_a);
}

}  // namespace

void bind_solvers(py::module_& m) {
    bind_gram<float>(m);
    bind_gram<double>(m);
    bind_spd_inverse<float>(m);
    bind_spd_inverse<double>(m);
    bind_slim<float>(m);
    bind_slim<double>(m);
    bind_admm<float>(m);
    bind_admm<double>(m);
    m.def("ease_weights", &bind_ease_weights, "p"_a, "n_threads"_a);
}

}  // namespace pyrec
