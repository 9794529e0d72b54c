#include <pybind11/stl.h>

#include <utility>

#include "core/gram.h"
#include "core/isa.h"
#include "core/ranking.h"
#include "core/solve.h"
#include "core/topk.h"
#include "python/numpy_view.h"

namespace {

using namespace pyrec;
namespace py = pybind11;
using namespace py::literals;

int threads(int n_threads) {
    require(n_threads >= 1, "n_threads must be at least 1, got " + std::to_string(n_threads));
    return n_threads;
}

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

void check_result(std::int64_t rows, const Matrix<std::int32_t>& items, const Matrix<float>& best) {
    require(items.rows == rows && best.rows == rows && items.cols == best.cols,
            "items and best must both have shape (" + std::to_string(rows) + ", k)");
}

void bind_topk(const py::array& scores, const py::object& seen, const py::object& deny,
               const py::object& allow, const py::array& items, const py::array& best, int n_threads) {
    const auto s = matrix<const float>(scores, "scores");
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(s.rows, i, b);
    const Candidates candidates{item_lists(seen, s.rows, s.cols, "seen"),
                                item_lists(deny, s.rows, s.cols, "deny"),
                                item_lists(allow, s.rows, s.cols, "allow")};
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk(s, candidates, i, b, n_threads);
}

Vector<const float> item_offset(const py::object& offset, std::int64_t n_items) {
    if (offset.is_none()) return {nullptr, 0};
    const auto o = vector<const float>(offset.cast<py::array>(), "offset");
    require(o.size == n_items, "offset must have an entry for each of the " + std::to_string(n_items) +
                                   " items, got " + std::to_string(o.size));
    return o;
}

void bind_scores_dense_weights(const py::array& indptr, const py::array& indices, const py::array& values,
                               const py::array& weights, const py::object& offset, const py::array& out,
                               int n_threads) {
    const auto w = square_matrix<const float>(weights, "weights");
    const auto x = csr(indptr, indices, values, w.rows, "x");
    const auto o = item_offset(offset, w.cols);
    const auto s = matrix<float>(out, "out");
    require(s.rows == x.rows && s.cols == x.cols, "out must have the shape of x");
    threads(n_threads);
    py::gil_scoped_release nogil;
    scores_dense_weights(x, w, o, s, n_threads);
}

void bind_topk_dense_weights(const py::array& indptr, const py::array& indices, const py::array& values,
                             const py::array& weights, const py::object& offset, const py::object& seen,
                             const py::object& deny, const py::object& allow, const py::array& items,
                             const py::array& best, int n_threads) {
    const auto w = square_matrix<const float>(weights, "weights");
    const auto x = csr(indptr, indices, values, w.rows, "x");
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(x.rows, i, b);
    const auto o = item_offset(offset, w.cols);
    const Candidates candidates{item_lists(seen, x.rows, w.cols, "seen"),
                                item_lists(deny, x.rows, w.cols, "deny"),
                                item_lists(allow, x.rows, w.cols, "allow")};
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk_dense_weights(x, w, o, candidates, i, b, n_threads);
}

void bind_ranking(const py::array& items, const py::array& indptr, const py::array& indices,
                  std::int64_t n_items, const std::vector<std::pair<Metric, std::int64_t>>& measures,
                  const py::array& out, int n_threads) {
    const auto i = matrix<const std::int32_t>(items, "items");
    const auto relevant = item_lists(py::make_tuple(indptr, indices), i.rows, n_items, "relevant");
    const auto o = matrix<double>(out, "out");
    require(o.rows == static_cast<std::int64_t>(measures.size()) && o.cols == i.rows,
            "out must have a row a measure and a column a row of items");
    std::vector<Measure> wanted;
    for (const auto& [metric, k] : measures) {
        require(k >= 1, "the k of a metric must be at least 1, got " + std::to_string(k));
        wanted.push_back({metric, k});
    }
    for (std::int64_t e = 0; e < i.rows * i.cols; ++e)
        if (i.data[e] < -1 || i.data[e] >= n_items)
            fail("items must be in -1.." + std::to_string(n_items - 1) + ", got " +
                 std::to_string(i.data[e]));
    threads(n_threads);
    py::gil_scoped_release nogil;
    ranking(i, relevant, n_items, wanted, o, n_threads);
}

std::string instruction_set() {
#if PYREC_HAS_CLONES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4";
    if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3";
#endif
    return "default";
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "CPU kernels over borrowed NumPy buffers; see pyrec.kernels for the public face.";
    m.attr("__version__") = PYREC_VERSION;
    m.def("instruction_set", &instruction_set);
    py::enum_<Metric>(m, "Metric")
        .value("ndcg", Metric::ndcg)
        .value("recall", Metric::recall)
        .value("full_recall", Metric::full_recall)
        .value("hit", Metric::hit)
        .value("mrr", Metric::mrr)
        .value("map", Metric::map)
        .value("precision", Metric::precision);
    bind_gram<float>(m);
    bind_gram<double>(m);
    bind_spd_inverse<float>(m);
    bind_spd_inverse<double>(m);
    m.def("ease_weights", &bind_ease_weights, "p"_a, "n_threads"_a);
    m.def("topk", &bind_topk, "scores"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "n_threads"_a);
    m.def("topk_dense_weights", &bind_topk_dense_weights, "indptr"_a, "indices"_a, "values"_a, "weights"_a,
          "offset"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "n_threads"_a);
    m.def("scores_dense_weights", &bind_scores_dense_weights, "indptr"_a, "indices"_a, "values"_a,
          "weights"_a, "offset"_a, "out"_a, "n_threads"_a);
    m.def("ranking", &bind_ranking, "items"_a, "indptr"_a, "indices"_a, "n_items"_a, "measures"_a, "out"_a,
          "n_threads"_a);
}
