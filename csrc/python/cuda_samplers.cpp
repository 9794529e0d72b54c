#include "cuda/conditions.h"
#include "cuda/negatives.h"
#include "cuda/sampler.h"
#include "cuda/windows.h"
#include "python/cuda_bindings.h"

namespace pyrec::cuda {
namespace {

using namespace py::literals;

// x, targets, items' conditions, alone, paired, masks, same_targets; of the core's Examples.
using ExamplesAt = std::tuple<CsrAt, CsrAt, CsrAt, VectorAt, VectorAt, VectorAt, bool>;

Examples examples(const ExamplesAt& e) {
    return {csr(std::get<0>(e)),
            csr(std::get<1>(e)),
            csr(std::get<2>(e)),
            vector<const std::int64_t>(std::get<3>(e)),
            vector<const std::int64_t>(std::get<4>(e)),
            vector<const std::uint64_t>(std::get<5>(e)),
            std::get<6>(e)};
}

void bind_take_rows(const CsrAt& x, const VectorAt& numbers, const VectorAt& indptr, const VectorAt& indices,
                    const VectorAt& values, const QueueAt& q) {
    take_rows(queue(q), csr(x), vector<const std::int64_t>(numbers), vector<const std::int64_t>(indptr),
              vector<std::int32_t>(indices), vector<float>(values));
}

void bind_take_rows_dense(const CsrAt& x, const VectorAt& numbers, const MatrixAt& out, const QueueAt& q) {
    take_rows_dense(queue(q), csr(x), vector<const std::int64_t>(numbers), matrix<float>(out));
}

void bind_find_examples(const ExamplesAt& e, const VectorAt& numbers, const VectorAt& rows,
                        const VectorAt& conditions, const QueueAt& q) {
    find_examples(queue(q), examples(e), vector<const std::int64_t>(numbers), vector<std::int64_t>(rows),
                  vector<std::int32_t>(conditions));
}

void bind_count_targets(const ExamplesAt& e, const VectorAt& rows, const VectorAt& conditions,
                        const VectorAt& sizes, const QueueAt& q) {
    count_targets(queue(q), examples(e), vector<const std::int64_t>(rows),
                  vector<const std::int32_t>(conditions), vector<std::int64_t>(sizes));
}

// Inputs or targets.
template <auto take> void bind_take_examples(const ExamplesAt& e, const VectorAt& rows,
                                             const VectorAt& conditions, const VectorAt& indptr,
                                             const VectorAt& indices, const VectorAt& values,
                                             const QueueAt& q) {
    take(queue(q), examples(e), vector<const std::int64_t>(rows), vector<const std::int32_t>(conditions),
         vector<const std::int64_t>(indptr), vector<std::int32_t>(indices), vector<float>(values));
}

void bind_negatives(const CsrAt& x, double share, std::uint64_t seed, std::uint64_t step, bool with_observed,
                    const MatrixAt& out, const VectorAt& workspace, const QueueAt& q) {
    negatives(queue(q), csr(x), share, seed, step, with_observed, matrix<bool>(out),
              vector<std::uint64_t>(workspace));
}

void bind_count_windows(const VectorAt& offsets, const VectorAt& items, const VectorAt& users,
                        const VectorAt& first, std::int64_t k, const VectorAt& sizes,
                        const VectorAt& workspace, const QueueAt& q) {
    const auto all = vector<const std::int32_t>(items);
    count_windows(queue(q), {vector<const std::int64_t>(offsets), all.data},
                  vector<const std::int64_t>(users), vector<const std::int64_t>(first), k,
                  vector<std::int64_t>(sizes), vector<std::int32_t>(workspace));
}

void bind_take_windows(const VectorAt& offsets, const VectorAt& items, const VectorAt& users,
                       const VectorAt& first, std::int64_t k, bool weighted, const VectorAt& indptr,
                       const VectorAt& inputs, const VectorAt& indices, const VectorAt& values,
                       const VectorAt& workspace, const QueueAt& q) {
    const auto all = vector<const std::int32_t>(items);
    take_windows(queue(q), {vector<const std::int64_t>(offsets), all.data}, vector<const std::int64_t>(users),
                 vector<const std::int64_t>(first), k, weighted, vector<const std::int64_t>(indptr),
                 vector<std::int32_t>(inputs), vector<std::int32_t>(indices), vector<float>(values),
                 vector<std::int32_t>(workspace));
}

}  // namespace

void bind_samplers(py::module_& m) {
    using NoGil = py::call_guard<py::gil_scoped_release>;
    m.def("take_rows", &bind_take_rows, "x"_a, "numbers"_a, "indptr"_a, "indices"_a, "values"_a, "queue"_a,
          NoGil());
    m.def("take_rows_dense", &bind_take_rows_dense, "x"_a, "numbers"_a, "out"_a, "queue"_a, NoGil());
    m.def("find_examples", &bind_find_examples, "examples"_a, "numbers"_a, "rows"_a, "conditions"_a,
          "queue"_a, NoGil());
    m.def("count_targets", &bind_count_targets, "examples"_a, "rows"_a, "conditions"_a, "sizes"_a, "queue"_a,
          NoGil());
    m.def("conditioned_inputs", &bind_take_examples<conditioned_inputs>, "examples"_a, "rows"_a,
          "conditions"_a, "indptr"_a, "indices"_a, "values"_a, "queue"_a, NoGil());
    m.def("conditioned_targets", &bind_take_examples<conditioned_targets>, "examples"_a, "rows"_a,
          "conditions"_a, "indptr"_a, "indices"_a, "values"_a, "queue"_a, NoGil());
    m.def("negatives_workspace", &negatives_workspace, "n_rows"_a, "n_items"_a);
    m.def("negatives", &bind_negatives, "x"_a, "share"_a, "seed"_a, "step"_a, "with_observed"_a, "out"_a,
          "workspace"_a, "queue"_a, NoGil());
    m.def("windows_workspace", &windows_workspace, "n_users"_a, "n_steps"_a, "k"_a);
    m.def("count_windows", &bind_count_windows, "offsets"_a, "items"_a, "users"_a, "first"_a, "k"_a,
          "sizes"_a, "workspace"_a, "queue"_a, NoGil());
    m.def("take_windows", &bind_take_windows, "offsets"_a, "items"_a, "users"_a, "first"_a, "k"_a,
          "weighted"_a, "indptr"_a, "inputs"_a, "indices"_a, "values"_a, "workspace"_a, "queue"_a, NoGil());
}

}  // namespace pyrec::cuda
