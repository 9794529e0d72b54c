#include "cuda/ranking.h"
#include "cuda/sparse_product.h"
#include "cuda/topk.h"
#include "python/cuda_bindings.h"

namespace pyrec::cuda {
namespace {

using namespace py::literals;

void bind_topk(const MatrixAt& scores, const ListsAt& seen, const ListsAt& deny, const ListsAt& allow,
               const MatrixAt& items, const MatrixAt& best, const MatrixAt& partial, const QueueAt& q) {
    topk(queue(q), matrix<const float>(scores), {item_lists(seen), item_lists(deny), item_lists(allow)},
         matrix<std::int32_t>(items), matrix<float>(best), matrix<std::uint64_t>(partial));
}

void bind_sparse_product(const CsrAt& x, const CsrAt& weights, const VectorAt& offset, const MatrixAt& out,
                         const QueueAt& q) {
    sparse_product(queue(q), csr(x), csr(weights), vector<const float>(offset), matrix<float>(out));
}

void bind_ranking(const MatrixAt& items, const ListsAt& relevant,
                  const std::vector<std::pair<int, std::int64_t>>& measures, const VectorAt& discounts,
                  const VectorAt& discount_sums, const MatrixAt& hits, const VectorAt& n_hits,
                  const MatrixAt& out, const QueueAt& q) {
    std::vector<Measure> wanted;
    for (const auto& [metric, k] : measures) wanted.push_back({static_cast<Metric>(metric), k});
    ranking(queue(q), matrix<const std::int32_t>(items), item_lists(relevant), wanted,
            vector<const double>(discounts), vector<const double>(discount_sums), matrix<std::int32_t>(hits),
            vector<std::int32_t>(n_hits), matrix<double>(out));
}

}  // namespace

void bind_rankings(py::module_& m) {
    const py::call_guard<py::gil_scoped_release> nogil;
    m.attr("most_selected") = kMostSelected;
    m.def("topk_parts", &topk_parts, "rows"_a, "cols"_a);
    m.def("topk", &bind_topk, "scores"_a, "seen"_a, "deny"_a, "allow"_a, "items"_a, "best"_a, "partial"_a,
          "queue"_a, nogil);
    m.def("sparse_product", &bind_sparse_product, "x"_a, "weights"_a, "offset"_a, "out"_a, "queue"_a, nogil);
    m.def("ranking", &bind_ranking, "items"_a, "relevant"_a, "measures"_a, "discounts"_a, "discount_sums"_a,
          "hits"_a, "n_hits"_a, "out"_a, "queue"_a, nogil);
}

}  // namespace pyrec::cuda
