#include <algorithm>
#include <vector>

#include "core/conditions.h"
#include "core/negatives.h"
#include "core/windows.h"
#include "python/bindings.h"

namespace pyrec {
namespace {

using namespace py::literals;

void check_in(const Vector<const std::int64_t>& numbers, std::int64_t n, const std::string& name) {
    for (std::int64_t b = 0; b < numbers.size; ++b)
        if (numbers[b] < 0 || numbers[b] >= n)
            fail(name + " must be in 0.." + std::to_string(n - 1) + ", got " + std::to_string(numbers[b]));
}

// Histories, targets and the items' conditions, checked once, and the arrays that they borrow.
class ConditionedRows {
  public:
    ConditionedRows(const py::tuple& x, const py::object& targets, const py::tuple& items,
                    std::int64_t n_items, std::int64_t n_conditions)
        : arrays_(py::make_tuple(x, targets, items)), counts_(static_cast<std::size_t>(n_conditions)) {
        e_.x = matrix_of(x, n_items, "x");
        e_.same_targets = targets.is_none();
        e_.targets = e_.same_targets ? e_.x : matrix_of(targets.cast<py::tuple>(), n_items, "targets");
        require(e_.targets.rows == e_.x.rows, "targets must have the rows of x, " +
                                                  std::to_string(e_.x.rows) + ", got " +
                                                  std::to_string(e_.targets.rows));
        e_.items = matrix_of(items, n_conditions, "item_conditions");
        require(e_.items.rows == n_items, "item_conditions must have a row for each of the " +
                                              std::to_string(n_items) + " items, got " +
                                              std::to_string(e_.items.rows));
        if (n_conditions == 0 || n_conditions > 64) return;
        masks_.resize(static_cast<std::size_t>(n_items));
        condition_masks(e_.items, {masks_.data(), n_items});
        e_.masks = {masks_.data(), n_items};
    }

    // Counts the examples; to be called once, before anything else.
    void count(int n_threads) {
        threads(n_threads);
        const auto n = static_cast<std::size_t>(e_.x.rows);
        alone_.resize(n + 1);
        paired_.resize(n + 1);
        py::gil_scoped_release nogil;
        count_examples(e_, {alone_.data() + 1, e_.x.rows}, {paired_.data() + 1, e_.x.rows},
                       {counts_.data(), e_.items.cols}, n_threads);
        for (std::size_t row = 0; row < n; ++row) {
            alone_[row + 1] += alone_[row];
            paired_[row + 1] += paired_[row];
        }
        e_.alone = {alone_.data(), e_.x.rows + 1};
        e_.paired = {paired_.data(), e_.x.rows + 1};
    }

    std::int64_t n_examples() const { return e_.size(); }
    std::int64_t n_alone() const { return e_.n_alone(); }
    py::array_t<std::int64_t> counts() const {
        return py::array_t<std::int64_t>(e_.items.cols, counts_.data());
    }
    // How many examples come before each row: those alone, then the others.
    py::tuple before() const {
        const auto copy = [](const Vector<const std::int64_t>& v) {
            return py::array_t<std::int64_t>(v.size, v.data);
        };
        return py::make_tuple(copy(e_.alone), copy(e_.paired));
    }

    void examples(const py::array& numbers, const py::array& rows, const py::array& conditions,
                  int n_threads) const {
        const auto n = vector<const std::int64_t>(numbers, "numbers");
        check_in(n, e_.size(), "numbers");
        const auto r = vector<std::int64_t>(rows, "rows");
        const auto c = vector<std::int32_t>(conditions, "conditions");
        require(r.size == n.size && c.size == n.size, "rows and conditions must be as long as numbers");
        threads(n_threads);
        py::gil_scoped_release nogil;
        find_examples(e_, n, r, c, n_threads);
    }

    void inputs(const py::array& rows, const py::array& conditions, const py::array& indptr,
                const py::array& indices, const py::array& values, int n_threads) const {
        const Batch b(*this, rows, conditions);
        const auto i = vector<std::int32_t>(indices, "indices");
        const auto v = vector<float>(values, "values");
        const auto p = offsets(indptr, i.size, "indptr");
        require(p.size == b.rows.size + 1 && v.size == i.size, "indptr and values do not fit");
        for (std::int64_t j = 0; j < b.rows.size; ++j) {
            const std::int64_t size = e_.x.indptr[b.rows[j] + 1] - e_.x.indptr[b.rows[j]];
            if (p[j + 1] - p[j] != size + (b.conditions[j] >= 0)) fail("indptr does not fit the rows");
        }
        threads(n_threads);
        py::gil_scoped_release nogil;
        conditioned_inputs(e_, b.rows, b.conditions, p, i, v, n_threads);
    }

    // Writes the offsets of the targets, and returns their number.
    std::int64_t target_offsets(const py::array& rows, const py::array& conditions, const py::array& indptr,
                                int n_threads) const {
        const Batch b(*this, rows, conditions);
        const auto p = vector<std::int64_t>(indptr, "indptr");
        require(p.size == b.rows.size + 1, "indptr must have an entry more than rows");
        threads(n_threads);
        py::gil_scoped_release nogil;
        p[0] = 0;
        count_targets(e_, b.rows, b.conditions, {p.data + 1, b.rows.size}, n_threads);
        for (std::int64_t j = 0; j < b.rows.size; ++j) p[j + 1] += p[j];
        return p[b.rows.size];
    }

    void targets(const py::array& rows, const py::array& conditions, const py::array& indptr,
                 const py::array& indices, const py::array& values, int n_threads) const {
        const Batch b(*this, rows, conditions);
        const auto i = vector<std::int32_t>(indices, "indices");
        const auto v = vector<float>(values, "values");
        const auto p = offsets(indptr, i.size, "indptr");
        require(p.size == b.rows.size + 1 && v.size == i.size, "indptr and values do not fit");
        threads(n_threads);
        py::gil_scoped_release nogil;
        conditioned_targets(e_, b.rows, b.conditions, p, i, v, n_threads);
    }

    void balanced(std::int64_t n_each, std::uint64_t seed, std::uint64_t epoch, const py::array& out) const {
        const auto o = vector<std::int64_t>(out, "out");
        std::int64_t size = 0;
        for (const std::int64_t count : counts_) size += std::min(n_each, count);
        require(n_each >= 0 && o.size == size, "out must have " + std::to_string(size) + " entries");
        py::gil_scoped_release nogil;
        balanced_examples(e_, {counts_.data(), e_.items.cols}, n_each, seed, epoch, o);
    }

  private:
    struct Batch {
        Vector<const std::int64_t> rows;
        Vector<const std::int32_t> conditions;

        Batch(const ConditionedRows& all, const py::array& r, const py::array& c)
            : rows(vector<const std::int64_t>(r, "rows")),
              conditions(vector<const std::int32_t>(c, "conditions")) {
            check_in(rows, all.e_.x.rows, "rows");
            require(conditions.size == rows.size, "conditions must be as many as rows");
            for (std::int64_t b = 0; b < conditions.size; ++b)
                if (conditions[b] < -1 || conditions[b] >= all.e_.items.cols)
                    fail("conditions must be in -1.." + std::to_string(all.e_.items.cols - 1) + ", got " +
                         std::to_string(conditions[b]));
        }
    };

    static Csr matrix_of(const py::tuple& parts, std::int64_t cols, const std::string& name) {
        require(parts.size() == 3, name + " must be (indptr, indices, data)");
        return csr(parts[0].cast<py::array>(), parts[1].cast<py::array>(), parts[2].cast<py::array>(), cols,
                   name);
    }

    py::tuple arrays_;
    std::vector<std::int64_t> alone_, paired_, counts_;
    std::vector<std::uint64_t> masks_;
    Examples e_{};
};

void bind_negatives(const py::array& indptr, const py::array& indices, double share, std::uint64_t seed,
                    std::uint64_t step, bool with_observed, const py::array& out, int n_threads) {
    const auto o = matrix<bool>(out, "out");
    const auto p = vector<const std::int64_t>(indptr, "x.indptr");
    const auto i = vector<const std::int32_t>(indices, "x.indices");
    check_lists(p, i, o.cols, "x");
    require(p.size - 1 == o.rows, "out must have a row for each of the " + std::to_string(p.size - 1) +
                                      " rows of x, got " + std::to_string(o.rows));
    require(share >= 0 && share <= 1, "share must be in 0..1, got " + std::to_string(share));
    threads(n_threads);
    py::gil_scoped_release nogil;
    negatives({o.rows, o.cols, p.data, i.data, nullptr}, share, seed, step, with_observed, o, n_threads);
}

// The users' own part of the sequences is checked, not all of them: it is done for every batch.
Sequences sequences(const py::array& offsets, const py::array& items, std::int64_t n_items,
                    const Vector<const std::int64_t>& users) {
    const auto p = vector<const std::int64_t>(offsets, "offsets");
    const auto i = vector<const std::int32_t>(items, "items");
    check_in(users, p.size - 1, "users");
    for (std::int64_t u = 0; u < users.size; ++u) {
        const std::int64_t begin = p[users[u]], end = p[users[u] + 1];
        if (begin < 0 || end < begin || end > i.size)
            fail("offsets must rise from 0 to " + std::to_string(i.size) + ", but those of user " +
                 std::to_string(users[u]) + " are " + std::to_string(begin) + " and " + std::to_string(end));
        if (end - begin < 2)
            fail("users must have sequences of 2 or more items, but user " + std::to_string(users[u]) +
                 " has " + std::to_string(end - begin));
        for (std::int64_t q = begin; q < end; ++q)
            if (i[q] < 0 || i[q] >= n_items)
                fail("items must be in 0.." + std::to_string(n_items - 1) + ", got " + std::to_string(i[q]));
    }
    return {p, i.data};
}

Vector<const std::int64_t> steps(const py::array& first, const Sequences& s,
                                 const Vector<const std::int64_t>& users) {
    const auto f = vector<const std::int64_t>(first, "first");
    require(f.size == users.size + 1 && f[0] == 0, "first must start at 0 and have an entry more than users");
    for (std::int64_t u = 0; u < users.size; ++u)
        if (f[u + 1] - f[u] != s.size(users[u]) - 1) fail("first does not fit the sequences");
    return f;
}

void bind_count_windows(const py::array& offsets, const py::array& items, std::int64_t n_items,
                        const py::array& users, const py::array& first, std::int64_t k,
                        const py::array& sizes, int n_threads) {
    const auto u = vector<const std::int64_t>(users, "users");
    const Sequences s = sequences(offsets, items, n_items, u);
    const auto f = steps(first, s, u);
    const auto z = vector<std::int64_t>(sizes, "sizes");
    require(k >= 0, "k must be at least 0, got " + std::to_string(k));
    require(z.size == f[u.size], "sizes must have an entry a step");
    threads(n_threads);
    py::gil_scoped_release nogil;
    count_windows(s, u, f, k, z, n_threads);
}

void bind_take_windows(const py::array& offsets, const py::array& items, std::int64_t n_items,
                       const py::array& users, const py::array& first, std::int64_t k, bool weighted,
                       const py::array& indptr, const py::array& inputs, const py::array& indices,
                       const py::array& values, int n_threads) {
    const auto u = vector<const std::int64_t>(users, "users");
    const Sequences s = sequences(offsets, items, n_items, u);
    const auto f = steps(first, s, u);
    const auto x = vector<std::int32_t>(inputs, "inputs");
    const auto i = vector<std::int32_t>(indices, "indices");
    const auto v = vector<float>(values, "values");
    const auto p = pyrec::offsets(indptr, i.size, "indptr");
    require(p.size == f[u.size] + 1 && x.size == f[u.size] && v.size == i.size,
            "indptr, inputs and values do not fit the steps");
    require(k >= 0, "k must be at least 0, got " + std::to_string(k));
    threads(n_threads);
    py::gil_scoped_release nogil;
    take_windows(s, u, f, k, weighted, p, x, i, v, n_threads);
}

}  // namespace

void bind_examples(py::module_& m) {
    py::class_<ConditionedRows>(m, "ConditionedRows")
        .def(py::init<const py::tuple&, const py::object&, const py::tuple&, std::int64_t, std::int64_t>(),
             "x"_a, "targets"_a, "item_conditions"_a, "n_items"_a, "n_conditions"_a)
        .def("count", &ConditionedRows::count, "n_threads"_a)
        .def("n_examples", &ConditionedRows::n_examples)
        .def("n_alone", &ConditionedRows::n_alone)
        .def("counts", &ConditionedRows::counts)
        .def("before", &ConditionedRows::before)
        .def("examples", &ConditionedRows::examples, "numbers"_a, "rows"_a, "conditions"_a, "n_threads"_a)
        .def("inputs", &ConditionedRows::inputs, "rows"_a, "conditions"_a, "indptr"_a, "indices"_a,
             "values"_a, "n_threads"_a)
        .def("target_offsets", &ConditionedRows::target_offsets, "rows"_a, "conditions"_a, "indptr"_a,
             "n_threads"_a)
        .def("targets", &ConditionedRows::targets, "rows"_a, "conditions"_a, "indptr"_a, "indices"_a,
             "values"_a, "n_threads"_a)
        .def("balanced", &ConditionedRows::balanced, "n_each"_a, "seed"_a, "epoch"_a, "out"_a);
    m.def("negatives", &bind_negatives, "indptr"_a, "indices"_a, "share"_a, "seed"_a, "step"_a,
          "with_observed"_a, "out"_a, "n_threads"_a);
    m.def("count_windows", &bind_count_windows, "offsets"_a, "items"_a, "n_items"_a, "users"_a, "first"_a,
          "k"_a, "sizes"_a, "n_threads"_a);
    m.def("take_windows", &bind_take_windows, "offsets"_a, "items"_a, "n_items"_a, "users"_a, "first"_a,
          "k"_a, "weighted"_a, "indptr"_a, "inputs"_a, "indices"_a, "values"_a, "n_threads"_a);
}

}  // namespace pyrec
