#include <pybind11/stl.h>

#include <utility>
#include <vector>

#include "core/panels.h"
#include "core/ranking.h"
#include "core/sparse_linear.h"
#include "core/topk.h"
#include "python/bindings.h"

namespace pyrec {
namespace {

using namespace py::literals;

void check_result(std::int64_t rows, const Matrix<std::int32_t>& items, const Matrix<float>& best) {
    require(items.rows == rows && best.rows == rows && items.cols == best.cols,
            "items and best must both have shape (" + std::to_string(rows) + ", k)");
}

Candidates candidates_of(const py::object& seen, const py::object& deny, const py::object& allow,
                         std::int64_t rows, std::int64_t n_items) {
    return {item_lists(seen, rows, n_items, "seen"), item_lists(deny, rows, n_items, "deny"),
            item_lists(allow, rows, n_items, "allow")};
}

// (indptr, indices, values) of a matrix with as many columns as rows.
Csr square_csr(const py::tuple& parts, const std::string& name) {
    require(parts.size() == 3, name + " must be (indptr, indices, data)");
    const auto indptr = parts[0].cast<py::array>();
    return csr(indptr, parts[1].cast<py::array>(), parts[2].cast<py::array>(), indptr.size() - 1, name);
}

void bind_topk(const py::array& scores, const py::object& seen, const py::object& deny,
               const py::object& allow, const py::array& items, const py::array& best, int n_threads) {
    const auto s = matrix<const float>(scores, "scores");
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(s.rows, i, b);
    const Candidates candidates = candidates_of(seen, deny, allow, s.rows, s.cols);
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk(s, candidates, i, b, n_threads);
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
    const auto o = item_offset<float>(offset, w.cols, "offset");
    const Candidates candidates = candidates_of(seen, deny, allow, x.rows, w.cols);
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk_dense_weights(x, w, o, candidates, i, b, n_threads);
}

void bind_topk_sparse_weights(const py::array& indptr, const py::array& indices, const py::array& values,
                              const py::tuple& weights, const py::object& offset, const py::object& seen,
                              const py::object& deny, const py::object& allow, const py::array& items,
                              const py::array& best, int n_threads) {
    const auto w = square_csr(weights, "weights");
    const auto x = csr(indptr, indices, values, w.rows, "x");
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(x.rows, i, b);
    const auto o = item_offset<float>(offset, w.cols, "offset");
    const Candidates candidates = candidates_of(seen, deny, allow, x.rows, w.cols);
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk_sparse_weights(x, w, o, candidates, i, b, n_threads);
}

void bind_sparse_product(const py::array& indptr, const py::array& indices, const py::array& values,
                         const py::tuple& weights, const py::object& offset, const py::array& out,
                         int n_threads) {
    const auto w = square_csr(weights, "weights");
    const auto x = csr(indptr, indices, values, w.rows, "x");
    const auto o = item_offset<float>(offset, w.cols, "offset");
    const auto y = matrix<float>(out, "out");
    require_shape(y, x.rows, w.cols, "out");
    threads(n_threads);
    py::gil_scoped_release nogil;
    sparse_product(x, w, o, y, n_threads);
}

std::int64_t packed_weights_bytes(std::int64_t n_items, bool bfloat16) {
    // The bytes of more items would not fit 64 bits.
    require(n_items >= 0 && n_items <= 1 << 30, "n_items must be in 0..2^30, got " + std::to_string(n_items));
    return bfloat16 ? Panels<Bf16>::bytes(n_items) : Panels<float>::bytes(n_items);
}

void* packed_memory(void* data, std::int64_t size, std::int64_t n_items, bool bfloat16, const char* name) {
    const std::int64_t wanted = packed_weights_bytes(n_items, bfloat16);
    require(size == wanted, std::string(name) + " must have " + std::to_string(wanted) +
                                " bytes for n_items = " + std::to_string(n_items) + ", got " +
                                std::to_string(size));
    require(reinterpret_cast<std::uintptr_t>(data) % alignof(float) == 0,
            std::string(name) + " must start at a multiple of 4 bytes");
    return data;
}

void check_order(const void* memory, std::int64_t n_items, const char* name) {
    const auto* const order = static_cast<const std::int32_t*>(memory);
    std::vector<bool> there(static_cast<std::size_t>(n_items), false);
    for (std::int64_t c = 0; c < n_items; ++c) {
        if (order[c] < 0 || order[c] >= n_items || there[static_cast<std::size_t>(order[c])])
            fail(std::string(name) + " does not hold packed weights: its items are not all there, once each");
        there[static_cast<std::size_t>(order[c])] = true;
    }
}

// The places first..last; with the first ones the order of all.
void bind_pack_weights(const py::array& weights, const py::array& out, bool bfloat16, std::int64_t first,
                       std::int64_t last, int n_threads) {
    const auto w = square_matrix<const float>(weights, "weights");
    const auto o = vector<std::uint8_t>(out, "out");
    void* const memory = packed_memory(o.data, o.size, w.rows, bfloat16, "out");
    require(0 <= first && first <= last && last <= w.rows, "first and last must be places, in order");
    threads(n_threads);
    if (first > 0) check_order(memory, w.rows, "out");
    py::gil_scoped_release nogil;
    if (first == 0) weights_order(w, static_cast<std::int32_t*>(memory), n_threads);
    if (bfloat16) pack_weights(w, Panels<Bf16>(memory, w.rows), first, last, n_threads);
    else pack_weights(w, Panels<float>(memory, w.rows), first, last, n_threads);
}

void bind_topk_packed_weights(const py::array& indptr, const py::array& indices, const py::array& values,
                              const py::array& packed, std::int64_t n_items, bool bfloat16,
                              const py::object& offset, const py::object& seen, const py::object& deny,
                              const py::object& allow, const py::array& items, const py::array& best,
                              int n_threads) {
    const auto w = vector<const std::uint8_t>(packed, "packed");
    // Only read.
    void* const memory =
        packed_memory(const_cast<std::uint8_t*>(w.data), w.size, n_items, bfloat16, "packed");
    const auto x = csr(indptr, indices, values, n_items, "x");
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(x.rows, i, b);
    const auto o = item_offset<float>(offset, n_items, "offset");
    const Candidates candidates = candidates_of(seen, deny, allow, x.rows, n_items);
    check_order(memory, n_items, "packed");
    threads(n_threads);
    py::gil_scoped_release nogil;
    if (bfloat16) topk_panels(x, Panels<Bf16>(memory, n_items), o, candidates, i, b, n_threads);
    else topk_panels(x, Panels<float>(memory, n_items), o, candidates, i, b, n_threads);
}

void bind_topk_factors(const py::array& h, const py::array& factors, const py::object& bias,
                       const py::object& seen, const py::object& deny, const py::object& allow,
                       const py::array& items, const py::array& best, int n_threads) {
    const auto u = matrix<const float>(h, "h");
    const auto v = matrix<const float>(factors, "items");
    require(u.cols == v.cols, "h and items must have the same rank, got " + std::to_string(u.cols) + " and " +
                                  std::to_string(v.cols));
    const auto i = matrix<std::int32_t>(items, "items");
    const auto b = matrix<float>(best, "best");
    check_result(u.rows, i, b);
    const auto o = item_offset<float>(bias, v.rows, "bias");
    const Candidates candidates = candidates_of(seen, deny, allow, u.rows, v.rows);
    threads(n_threads);
    py::gil_scoped_release nogil;
    topk_factors(u, v, o, candidates, i, b, n_threads);
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

}  // namespace

void bind_rankings(py::module_& m) {
    py::enum_<Metric>(m, "Metric")
        .value("ndcg", Metric::ndcg)
        .value("recall", Metric::recall)
        .value("full_recall", Metric::full_recall)
        .value("hit", Metric::hit)
        .value("mrr", Metric::mrr)
        .value("map", Metric::map)
        .value("precision", Metric::precision);
    m.def("topk", &bind_topk, "scores"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "n_threads"_a);
    m.def("topk_dense_weights", &bind_topk_dense_weights, "indptr"_a, "indices"_a, "values"_a, "weights"_a,
          "offset"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "n_threads"_a);
    m.def("topk_sparse_weights", &bind_topk_sparse_weights, "indptr"_a, "indices"_a, "values"_a, "weights"_a,
          "offset"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "n_threads"_a);
    m.def("sparse_product", &bind_sparse_product, "indptr"_a, "indices"_a, "values"_a, "weights"_a,
          "offset"_a, "out"_a, "n_threads"_a);
    m.def("packed_weights_bytes", &packed_weights_bytes, "n_items"_a, "bfloat16"_a);
    m.def("pack_weights", &bind_pack_weights, "weights"_a, "out"_a, "bfloat16"_a, "first"_a, "last"_a,
          "n_threads"_a);
    m.def("topk_packed_weights", &bind_topk_packed_weights, "indptr"_a, "indices"_a, "values"_a, "packed"_a,
          "n_items"_a, "bfloat16"_a, "offset"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a,
          "n_threads"_a);
    m.def("topk_factors", &bind_topk_factors, "h"_a, "factors"_a, "bias"_a, "seen"_a, "deny"_a, "allow"_a,
          "items"_a, "best"_a, "n_threads"_a);
    m.def("ranking", &bind_ranking, "items"_a, "indptr"_a, "indices"_a, "n_items"_a, "measures"_a, "out"_a,
          "n_threads"_a);
}

}  // namespace pyrec
