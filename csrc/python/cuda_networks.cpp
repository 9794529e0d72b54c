#include "cuda/inputs.h"
#include "cuda/multinomial.h"
#include "cuda/sparse_linear.h"
#include "python/cuda_bindings.h"

namespace pyrec::cuda {
namespace {

using namespace py::literals;

using TargetsAt = std::tuple<Address, Address, Address>;  // Targets: offsets (or 0), items, values
using MaskAt = std::tuple<Address, std::int64_t>;         // ItemMask

template <class T> void bind_sparse_linear(py::module_& m) {
    def<T>(
        m, "sparse_linear",
        [](const CsrAt& x, const MatrixAt& weights, const VectorAt& offset, const MatrixAt& out,
           const QueueAt& q) {
            sparse_linear(queue(q), csr<T>(x), matrix<const T>(weights), vector<const T>(offset),
                          matrix<T>(out));
        },
        "x"_a, "weights"_a, "offset"_a, "out"_a, "queue"_a);
    def<T>(
        m, "sparse_linear_weight_grad",
        [](const CsrAt& transposed, const MatrixAt& out_grad, const MatrixAt& grad, const QueueAt& q) {
            sparse_linear_weight_grad(queue(q), csr<T>(transposed), matrix<const T>(out_grad),
                                      matrix<T>(grad));
        },
        "transposed"_a, "out_grad"_a, "grad"_a, "queue"_a);
    def<T>(
        m, "sparse_linear_value_grad",
        [](const CsrAt& x, const MatrixAt& weights, const MatrixAt& out_grad, const VectorAt& grad,
           const QueueAt& q) {
            sparse_linear_value_grad(queue(q), csr<T>(x), matrix<const T>(weights), matrix<const T>(out_grad),
                                     vector<T>(grad));
        },
        "x"_a, "weights"_a, "out_grad"_a, "grad"_a, "queue"_a);
    def<T>(
        m, "normalize_rows",
        [](const VectorAt& indptr, const VectorAt& values, const VectorAt& out, const QueueAt& q) {
            normalize_rows(queue(q), vector<const std::int64_t>(indptr), vector<const T>(values),
                           vector<T>(out));
        },
        "indptr"_a, "values"_a, "out"_a, "queue"_a);
    def<T>(
        m, "drop",
        [](const VectorAt& values, double share, std::uint64_t seed, const VectorAt& out, const QueueAt& q) {
            drop(queue(q), vector<const T>(values), share, seed, vector<T>(out));
        },
        "values"_a, "share"_a, "seed"_a, "out"_a, "queue"_a);
}

template <class T> Targets<T> targets(const TargetsAt& x, std::int64_t cols) {
    return {at<const std::int64_t>(std::get<0>(x)), at<const std::int32_t>(std::get<1>(x)),
            at<const T>(std::get<2>(x)), cols};
}

ItemMask item_mask(const MaskAt& m) { return {at<const std::uint8_t>(std::get<0>(m)), std::get<1>(m)}; }

template <class S, class T> void bind_multinomial(py::module_& m) {
    def<S>(
        m, "multinomial_forward",
        [](const MatrixAt& logits, const TargetsAt& target, const MaskAt& mask, const VectorAt& loss,
           const VectorAt& lse, const QueueAt& q) {
            const auto l = matrix<const S>(logits);
            multinomial_forward(queue(q), l, targets<T>(target, l.cols), item_mask(mask), vector<T>(loss),
                                vector<T>(lse));
        },
        "logits"_a, "target"_a, "mask"_a, "loss"_a, "lse"_a, "queue"_a);
    def<S>(
        m, "multinomial_backward",
        [](const MatrixAt& logits, const TargetsAt& target, const MaskAt& mask, const VectorAt& lse,
           const VectorAt& scale, const MatrixAt& grad, const QueueAt& q) {
            const auto l = matrix<const S>(logits);
            multinomial_backward(queue(q), l, targets<T>(target, l.cols), item_mask(mask),
                                 vector<const T>(lse), vector<const T>(scale), matrix<S>(grad));
        },
        "logits"_a, "target"_a, "mask"_a, "lse"_a, "scale"_a, "grad"_a, "queue"_a);
    def<S>(
        m, "multinomial_in_place",
        [](const MatrixAt& logits, const TargetsAt& target, const MaskAt& mask, double scale,
           const VectorAt& loss, const QueueAt& q) {
            const auto l = matrix<S>(logits);
            multinomial_in_place(queue(q), l, targets<T>(target, l.cols), item_mask(mask),
                                 static_cast<T>(scale), vector<T>(loss));
        },
        "logits"_a, "target"_a, "mask"_a, "scale"_a, "loss"_a, "queue"_a);
}

}  // namespace

void bind_networks(py::module_& m) {
    bind_sparse_linear<float>(m);
    bind_sparse_linear<double>(m);
    bind_multinomial<float, float>(m);
    bind_multinomial<double, double>(m);
    bind_multinomial<Bf16, float>(m);
}

}  // namespace pyrec::cuda
