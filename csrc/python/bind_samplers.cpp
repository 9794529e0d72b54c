#include "core/permutation.h"
#include "core/sampler.h"
#include "python/bindings.h"

namespace pyrec {
namespace {

using namespace py::literals;

void bind_permuted(std::int64_t n, std::uint64_t seed, std::uint64_t epoch, std::int64_t first,
                   const py::array& out, int n_threads) {
    const auto o = vector<std::int64_t>(out, "out");
    if (first < 0 || first + o.size > n)
        fail("first must leave room for " + std::to_string(o.size) + " places of " + std::to_string(n) +
             ", got " + std::to_string(first));
    threads(n_threads);
    py::gil_scoped_release nogil;
    permuted(n, seed, epoch, first, o, n_threads);
}

// A CSR matrix that was checked once, and the arrays that it borrows.
class Rows {
  public:
    Rows(const py::array& indptr, const py::array& indices, const py::array& values, std::int64_t n_cols)
        : indptr_(indptr),
          indices_(indices),
          values_(values),
          x_(csr(indptr, indices, values, n_cols, "x")) {}

    void take(const py::array& numbers, const py::array& indptr, const py::array& indices,
              const py::array& values, int n_threads) const {
        const auto n = checked(numbers);
        const auto p = vector<std::int64_t>(indptr, "indptr");
        require(p.size == n.size + 1, "indptr must have an entry more than numbers");
        p[0] = 0;
        for (std::int64_t b = 0; b < n.size; ++b) p[b + 1] = p[b] + size_of_row(n[b]);
        const auto i = vector<std::int32_t>(indices, "indices");
        const auto v = vector<float>(values, "values");
        require(i.size == p[n.size] && v.size == p[n.size],
                "indices and values must have " + std::to_string(p[n.size]) + " entries");
        threads(n_threads);
        py::gil_scoped_release nogil;
        take_rows(x_, n, {p.data, p.size}, i, v, n_threads);
    }

    void take_dense(const py::array& numbers, const py::array& out, int n_threads) const {
        const auto n = checked(numbers);
        const auto o = matrix<float>(out, "out");
        require_shape(o, n.size, x_.cols, "out");
        threads(n_threads);
        py::gil_scoped_release nogil;
        take_rows_dense(x_, n, o, n_threads);
    }

    std::int64_t size_of(const py::array& numbers) const {
        const auto n = checked(numbers);
        std::int64_t total = 0;
        for (std::int64_t b = 0; b < n.size; ++b) {
            // Rows come from all over memory: their latencies overlap.
            if (b + 16 < n.size) __builtin_prefetch(x_.indptr + n[b + 16]);
            total += size_of_row(n[b]);
        }
        return total;
    }

  private:
    std::int64_t size_of_row(std::int64_t row) const { return x_.indptr[row + 1] - x_.indptr[row]; }

    Vector<const std::int64_t> checked(const py::array& numbers) const {
        const auto n = vector<const std::int64_t>(numbers, "numbers");
        for (std::int64_t b = 0; b < n.size; ++b)
            if (n[b] < 0 || n[b] >= x_.rows)
                fail("numbers must be rows in 0.." + std::to_string(x_.rows - 1) + ", got " +
                     std::to_string(n[b]));
        return n;
    }

    py::array indptr_, indices_, values_;
    Csr x_;
};

template <class T> void bind_nonzeros(py::module_& m) {
    m.def(
        "count_nonzeros",
        [](const py::array_t<T>& x, const py::array& counts, int n_threads) {
            const auto v = matrix<const T>(x, "x");
            const auto c = vector<std::int64_t>(counts, "counts");
            require(c.size == v.rows, "counts must have an entry a row");
            threads(n_threads);
            py::gil_scoped_release nogil;
            count_nonzeros(v, c, n_threads);
        },
        "x"_a.noconvert(), "counts"_a, "n_threads"_a);
    m.def(
        "take_nonzeros",
        [](const py::array_t<T>& x, const py::array& indptr, const py::array& indices,
           const py::array_t<T>& values, int n_threads) {
            const auto v = matrix<const T>(x, "x");
            const auto i = vector<std::int32_t>(indices, "indices");
            const auto d = vector<T>(values, "values");
            const auto p = offsets(indptr, i.size, "indptr");
            require(p.size == v.rows + 1, "indptr must have an entry more than x has rows");
            require(i.size == d.size, "indices and values must have the same length");
            threads(n_threads);
            py::gil_scoped_release nogil;
            take_nonzeros(v, p, i, d, n_threads);
        },
        "x"_a.noconvert(), "indptr"_a, "indices"_a, "values"_a.noconvert(), "n_threads"_a);
}

}  // namespace

void bind_samplers(py::module_& m) {
    m.def("permuted", &bind_permuted, "n"_a, "seed"_a, "epoch"_a, "first"_a, "out"_a, "n_threads"_a);
    py::class_<Rows>(m, "Rows")
        .def(py::init<const py::array&, const py::array&, const py::array&, std::int64_t>(), "indptr"_a,
             "indices"_a, "values"_a, "n_cols"_a)
        .def("size_of", &Rows::size_of, "numbers"_a)
        .def("take", &Rows::take, "numbers"_a, "indptr"_a, "indices"_a, "values"_a, "n_threads"_a)
        .def("take_dense", &Rows::take_dense, "numbers"_a, "out"_a, "n_threads"_a);
    bind_nonzeros<float>(m);
    bind_nonzeros<double>(m);
}

}  // namespace pyrec
