#include <type_traits>

#include "core/inputs.h"
#include "core/multinomial.h"
#include "core/sparse_linear.h"
#include "python/bindings.h"

namespace pyrec {
namespace {

using namespace py::literals;

template <class T> void bind_sparse_linear(py::module_& m) {
    m.def(
        "sparse_linear",
        [](const py::array& indptr, const py::array& indices, const py::array& values,
           const py::array_t<T>& weights, const py::object& offset, const py::array_t<T>& out,
           int n_threads) {
            const auto w = matrix<const T>(weights, "weights");
            const auto x = csr<T>(indptr, indices, values, w.rows, "x");
            const auto o = item_offset<T>(offset, w.cols, "offset");
            const auto y = matrix<T>(out, "out");
            require_shape(y, x.rows, w.cols, "out");
            threads(n_threads);
            py::gil_scoped_release nogil;
            sparse_linear(x, w, o, y, n_threads);
        },
        "indptr"_a, "indices"_a, "values"_a, "weights"_a.noconvert(), "offset"_a, "out"_a.noconvert(),
        "n_threads"_a);
    m.def(
        "sparse_linear_weight_grad",
        [](const py::array& indptr, const py::array& indices, const py::array& values,
           const py::array_t<T>& out_grad, const py::array_t<T>& grad, int n_threads) {
            const auto g = matrix<T>(grad, "grad");
            const auto x = csr<T>(indptr, indices, values, g.rows, "x");
            const auto d = matrix<const T>(out_grad, "out_grad");
            require_shape(d, x.rows, g.cols, "out_grad");
            threads(n_threads);
            py::gil_scoped_release nogil;
            sparse_linear_weight_grad(x, d, g, n_threads);
        },
        "indptr"_a, "indices"_a, "values"_a, "out_grad"_a.noconvert(), "grad"_a.noconvert(), "n_threads"_a);
    m.def(
        "sparse_linear_value_grad",
        [](const py::array& indptr, const py::array& indices, const py::array& values,
           const py::array_t<T>& weights, const py::array_t<T>& out_grad, const py::array_t<T>& grad,
           int n_threads) {
            const auto w = matrix<const T>(weights, "weights");
            const auto x = csr<T>(indptr, indices, values, w.rows, "x");
            const auto d = matrix<const T>(out_grad, "out_grad");
            const auto g = vector<T>(grad, "grad");
            require_shape(d, x.rows, w.cols, "out_grad");
            require(g.size == x.indptr[x.rows], "grad must have an entry for each of x");
            threads(n_threads);
            py::gil_scoped_release nogil;
            sparse_linear_value_grad(x, w, d, g, n_threads);
        },
        "indptr"_a, "indices"_a, "values"_a, "weights"_a.noconvert(), "out_grad"_a.noconvert(),
        "grad"_a.noconvert(), "n_threads"_a);
    m.def(
        "normalize_rows",
        [](const py::array& indptr, const py::array_t<T>& values, const py::array_t<T>& out, int n_threads) {
            const auto v = vector<const T>(values, "values");
            const auto p = offsets(indptr, v.size, "indptr");
            const auto o = vector<T>(out, "out");
            require(o.size == v.size, "out must have an entry for each of values");
            threads(n_threads);
            py::gil_scoped_release nogil;
            normalize_rows(p, v, o, n_threads);
        },
        "indptr"_a, "values"_a.noconvert(), "out"_a.noconvert(), "n_threads"_a);
    m.def(
        "drop",
        [](const py::array_t<T>& values, double share, std::uint64_t seed, const py::array_t<T>& out,
           int n_threads) {
            const auto v = vector<const T>(values, "values");
            const auto o = vector<T>(out, "out");
            require(o.size == v.size, "out must have an entry for each of values");
            require(share >= 0 && share < 1, "share must be in [0, 1), got " + std::to_string(share));
            threads(n_threads);
            py::gil_scoped_release nogil;
            drop(v, share, seed, o, n_threads);
        },
        "values"_a.noconvert(), "share"_a, "seed"_a, "out"_a.noconvert(), "n_threads"_a);
}

// (indptr, indices, values) of sparse rows, or a dense matrix.
template <class T> Targets<T> targets(const py::object& x, std::int64_t rows, std::int64_t cols) {
    if (py::isinstance<py::tuple>(x)) {
        const auto parts = x.cast<py::tuple>();
        const auto c = csr<T>(parts[0].cast<py::array>(), parts[1].cast<py::array>(),
                              parts[2].cast<py::array>(), cols, "target");
        require(c.rows == rows, "target must have a row for each of the " + std::to_string(rows) +
                                    " rows of logits, got " + std::to_string(c.rows));
        return {c.indptr, c.indices, c.values, cols};
    }
    const auto dense = matrix<const T>(x.cast<py::array>(), "target");
    require_shape(dense, rows, cols, "target");
    return {nullptr, nullptr, dense.data, cols};
}

ItemMask item_mask(const py::object& mask, std::int64_t rows, std::int64_t cols) {
    if (mask.is_none()) return {};
    const auto m = matrix<const std::uint8_t>(mask.cast<py::array>(), "mask");
    require((m.rows == 1 || m.rows == rows) && m.cols == cols,
            "mask must have shape (1 or " + std::to_string(rows) + ", " + std::to_string(cols) + "), got (" +
                std::to_string(m.rows) + ", " + std::to_string(m.cols) + ")");
    return {m.data, m.rows == 1 ? 0 : cols};
}

// NumPy has no bfloat16: its bits travel as uint16.
template <class S> struct Stored {
    using type = S;
};
template <> struct Stored<Bf16> {
    using type = std::uint16_t;
};

template <class S> Matrix<S> logits_of(const py::array& a, const char* name) {
    using Plain = std::remove_const_t<S>;
    using Bits = typename Stored<Plain>::type;
    using View = std::conditional_t<std::is_const_v<S>, const Bits, Bits>;
    const auto m = matrix<View>(a, name);
    return {reinterpret_cast<S*>(m.data), m.rows, m.cols};
}

template <class S, class T> void bind_multinomial(py::module_& m) {
    using Array = py::array_t<typename Stored<S>::type>;
    m.def(
        "multinomial_forward",
        [](const Array& logits, const py::object& target, const py::object& mask, const py::array_t<T>& loss,
           const py::array_t<T>& lse, int n_threads) {
            const auto l = logits_of<const S>(logits, "logits");
            const auto x = targets<T>(target, l.rows, l.cols);
            const auto out = item_mask(mask, l.rows, l.cols);
            const auto losses = vector<T>(loss, "loss"), lses = vector<T>(lse, "lse");
            require(losses.size == l.rows && lses.size == l.rows, "loss and lse must have an entry a row");
            threads(n_threads);
            py::gil_scoped_release nogil;
            multinomial_forward(l, x, out, losses, lses, n_threads);
        },
        "logits"_a.noconvert(), "target"_a, "mask"_a, "loss"_a.noconvert(), "lse"_a.noconvert(),
        "n_threads"_a);
    m.def(
        "multinomial_backward",
        [](const Array& logits, const py::object& target, const py::object& mask, const py::array_t<T>& lse,
           const py::array_t<T>& scale, const Array& grad, int n_threads) {
            const auto l = logits_of<const S>(logits, "logits");
            const auto x = targets<T>(target, l.rows, l.cols);
            const auto out = item_mask(mask, l.rows, l.cols);
            const auto lses = vector<const T>(lse, "lse"), scales = vector<const T>(scale, "scale");
            require(lses.size == l.rows && scales.size == l.rows, "lse and scale must have an entry a row");
            const auto g = logits_of<S>(grad, "grad");
            require_shape(g, l.rows, l.cols, "grad");
            threads(n_threads);
            py::gil_scoped_release nogil;
            multinomial_backward(l, x, out, lses, scales, g, n_threads);
        },
        "logits"_a.noconvert(), "target"_a, "mask"_a, "lse"_a.noconvert(), "scale"_a.noconvert(),
        "grad"_a.noconvert(), "n_threads"_a);
    m.def(
        "multinomial_in_place",
        [](const Array& logits, const py::object& target, const py::object& mask, double scale,
           const py::array_t<T>& loss, int n_threads) {
            const auto l = logits_of<S>(logits, "logits");
            const auto x = targets<T>(target, l.rows, l.cols);
            const auto out = item_mask(mask, l.rows, l.cols);
            const auto losses = vector<T>(loss, "loss");
            require(losses.size == l.rows, "loss must have an entry a row");
            threads(n_threads);
            py::gil_scoped_release nogil;
            multinomial_in_place(l, x, out, static_cast<T>(scale), losses, n_threads);
        },
        "logits"_a.noconvert(), "target"_a, "mask"_a, "scale"_a, "loss"_a.noconvert(), "n_threads"_a);
}

}  // namespace

void bind_networks(py::module_& m) {
    bind_sparse_linear<float>(m);
    bind_sparse_linear<double>(m);
    bind_multinomial<float, float>(m);
    bind_multinomial<double, double>(m);
    bind_multinomial<Bf16, float>(m);
}

}  // namespace pyrec
