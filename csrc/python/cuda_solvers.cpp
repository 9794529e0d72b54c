#include "cuda/admm.h"
#include "cuda/gram.h"
#include "python/cuda_bindings.h"

namespace pyrec::cuda {
namespace {

using namespace py::literals;
using OccurrencesAt = std::tuple<Address, Address, Address>;  // begin, entries, row_ends
using SettingsAt = std::tuple<double, double, double, bool>;  // lambda1, rho, relaxation, nonnegative

template <class T> AdmmSettings<T> settings(const SettingsAt& s) {
    const auto [lambda1, rho, relaxation, nonnegative] = s;
    return {static_cast<T>(rho), static_cast<T>(lambda1 / rho), static_cast<T>(relaxation), nonnegative};
}

template <class T> void bind(py::module_& m) {
    def<T>(
        m, "gram",
        [](const CsrAt& x, const OccurrencesAt& where, bool ones, const MatrixAt& out, const QueueAt& q) {
            const auto [begin, entries, row_ends] = where;
            using Entry = const std::int64_t;
            const Occurrences lists{at<Entry>(begin), at<Entry>(entries), at<Entry>(row_ends)};
            gram(queue(q), csr(x), lists, ones, matrix<T>(out));
        },
        "x"_a, "where"_a, "ones"_a, "out"_a, "queue"_a);
    def<T>(
        m, "mirror_upper", [](const MatrixAt& a, const QueueAt& q) { mirror_upper(queue(q), matrix<T>(a)); },
        "a"_a, "queue"_a);
    def<T>(
        m, "admm_aim",
        [](const MatrixAt& p, const VectorAt& columns, const SettingsAt& s, const MatrixAt& w,
           const MatrixAt& d, const QueueAt& q) {
            admm_aim(queue(q), matrix<const T>(p), vector<const std::int32_t>(columns), settings<T>(s),
                     matrix<const T>(w), matrix<T>(d));
        },
        "p"_a, "columns"_a, "settings"_a, "w"_a, "d"_a, "queue"_a);
    def<T>(
        m, "admm_advance",
        [](const VectorAt& columns, const SettingsAt& s, const MatrixAt& product, const MatrixAt& w,
           const VectorAt& residuals, const QueueAt& q) {
            admm_advance(queue(q), vector<const std::int32_t>(columns), settings<T>(s),
                         matrix<const T>(product), matrix<T>(w), vector<double>(residuals));
        },
        "columns"_a, "settings"_a, "product"_a, "w"_a, "residuals"_a, "queue"_a);
}

}  // namespace

void bind_solvers(py::module_& m) {
    bind<float>(m);
    bind<double>(m);
}

}  // namespace pyrec::cuda
