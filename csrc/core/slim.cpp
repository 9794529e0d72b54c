#include "core/slim.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "core/isa.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/spares.h"

namespace pyrec {
namespace {

constexpr std::int64_t kFirstItems = 128;  // active at first; afterwards as many more as there are
// A round ends with a sweep that gains less than this part of the gap.
constexpr double kInner = 0.03, kLeastInner = 1e-12;
constexpr double kLeastStep = 0.3;  // of the gain a sweep should have, shared among its items

// What a coordinate becomes: the minimum along it, with the gradient -r there and the curvature h.
template <class T> PYREC_INLINE T minimum(T b, T r, T h, T lambda1, bool nonnegative) {
    const T z = r + h * b, above = z - lambda1, below = nonnegative ? T(0) : z + lambda1;
    return above > 0 ? above / h : below < 0 ? below / h : T(0);
}

// One pass over m coordinates with the square h of G + lambda2 I; r is kept up to date. Returns by how
// much the objective fell, at least. Steps that would gain less than `least` are left for later: most of
// a late sweep's steps do, and each costs as much as a large one.
template <class T> PYREC_INLINE double sweep(const T* h, std::int64_t m, std::int64_t width,
                                             std::int64_t stride, T lambda1, bool nonnegative, double least,
                                             const std::int32_t* order, T* r, T* b) {
    double fall = 0;
    for (std::int64_t i = 0; i < m; ++i) {
        const std::int64_t a = order[i];
        const T* const row = h + a * stride;
        const T value = minimum(b[a], r[a], row[a], lambda1, nonnegative), step = value - b[a];
        const double gain = 0.5 * row[a] * static_cast<double>(step) * step;
        if (step == 0 || gain < least) continue;
        b[a] = value;
#pragma omp simd
        for (std::int64_t c = 0; c < width; ++c) r[c] -= step * row[c];
        fall += gain;
    }
    return fall;
}

template <class T> PYREC_INLINE void subtract(const T* row, double scale, std::int64_t n, double* r) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) r[i] -= scale * row[i];
}

// Four rows at once: r goes through the cache once for all of them.
template <class T>
PYREC_INLINE void subtract_four(const T* const* rows, const double* scales, std::int64_t n, double* r) {
    const T *p = rows[0], *q = rows[1], *s = rows[2], *t = rows[3];
    const double x = scales[0], y = scales[1], z = scales[2], w = scales[3];
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) r[i] -= (x * p[i] + y * q[i]) + (z * s[i] + w * t[i]);
}

#define PYREC_LEAVES(T)                                                                                      \
    PYREC_CLONES double sweep_of(const T* h, std::int64_t m, std::int64_t width, std::int64_t stride,        \
                                 T lambda1, bool nonnegative, double least, const std::int32_t* order, T* r, \
                                 T* b) {                                                                     \
        return sweep(h, m, width, stride, lambda1, nonnegative, least, order, r, b);                         \
    }                                                                                                        \
    PYREC_CLONES void subtract_row(const T* row, double scale, std::int64_t n, double* r) {                  \
        subtract(row, scale, n, r);                                                                          \
    }                                                                                                        \
    PYREC_CLONES void subtract_rows(const T* const* rows, const double* scales, std::int64_t n, double* r) { \
        subtract_four(rows, scales, n, r);                                                                   \
    }
PYREC_LEAVES(float)
PYREC_LEAVES(double)
#undef PYREC_LEAVES

// Items out of the active set that a step would move: written one after the other, without a branch.
PYREC_CLONES std::int64_t outside(const double* r, const std::uint8_t* inside, std::int64_t n, double lambda1,
                                  bool nonnegative, std::int32_t* found) {
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const double size = nonnegative ? r[i] : std::fabs(r[i]);
        found[count] = static_cast<std::int32_t>(i);
        count += size > lambda1 && !inside[i];
    }
    return count;
}

// G + lambda2 I of the active items, in their order: what stays active is not fetched again.
template <class T> class Square {
  public:
    std::int64_t size() const { return size_; }
    std::int64_t width() const { return (size_ + kLanes - 1) / kLanes * kLanes; }  // zeros from size() on
    std::int64_t stride() const { return stride_; }
    T* row(std::int64_t a) const { return memory_.get() + a * stride_; }
    void clear() { size_ = 0; }

    // Leaves the rows and columns at the ascending places `kept`.
    void keep(const std::vector<std::int64_t>& kept) {
        std::int64_t count = 0;
        for (const std::int64_t a : kept) count += a < size_;
        for (std::int64_t a = 0; a < count; ++a) {
            const T* const from = row(kept[static_cast<std::size_t>(a)]);
            for (std::int64_t c = 0; c < count; ++c) row(a)[c] = from[kept[static_cast<std::size_t>(c)]];
            std::fill(row(a) + count, row(a) + stride_, T(0));
        }
        size_ = count;
    }

    // Takes in the items from the present size on; false, and empty, when they are too many.
    bool extend(Matrix<const T> g, const std::vector<std::int32_t>& items, T lambda2) {
        const auto m = static_cast<std::int64_t>(items.size());
        if (!grow(m)) return false;
        for (std::int64_t a = size_; a < m; ++a) {
            const T* const from = g.row(items[static_cast<std::size_t>(a)]);
            T* const to = row(a);
            for (std::int64_t c = 0; c <= a; ++c) to[c] = from[items[static_cast<std::size_t>(c)]];
            std::fill(to + a + 1, to + stride_, T(0));
            for (std::int64_t c = 0; c < a; ++c) row(c)[a] = to[c];
            to[a] += lambda2;
        }
        size_ = m;
        return true;
    }

  private:
    static constexpr auto kLanes = static_cast<std::int64_t>(64 / sizeof(T));
    static constexpr std::int64_t kMost = sizeof(T) == 4 ? 4096 : 2880;  // squared, 64 MiB

    bool grow(std::int64_t m) {
        if (m > kMost) {
            clear();
            return false;
        }
        if (m <= stride_) return true;
        const std::int64_t more = std::min(stride_ + stride_ / 2, kMost);
        const std::int64_t wide = (std::max(m, more) + kLanes - 1) / kLanes * kLanes;
        std::unique_ptr<T[]> larger(new T[static_cast<std::size_t>(wide * wide)]);
        for (std::int64_t a = 0; a < size_; ++a) {
            std::copy(row(a), row(a) + size_, larger.get() + a * wide);
            std::fill(larger.get() + a * wide + size_, larger.get() + (a + 1) * wide, T(0));
        }
        memory_ = std::move(larger);
        stride_ = wide;
        return true;
    }

    std::unique_ptr<T[]> memory_;
    std::int64_t stride_ = 0, size_ = 0;
};

// Solves one column after the other with the same working memory.
template <class T> class Solver {
  public:
    Solver(Matrix<const T> g, const SlimSettings& settings, const T* diagonal)
        : g_(g),
          s_(settings),
          diagonal_(diagonal),
          r_(size(g.rows)),
          inside_(size(g.rows)),
          found_(size(g.rows) + 1) {}

    SlimColumn<T> solve(std::int64_t j, const BasicCsr<T>& start, std::int64_t row) {
        begin(j, start, row);
        const double half = 0.5 * static_cast<double>(diagonal_[j]);
        std::int64_t sweeps = 0;
        double gap = std::numeric_limits<double>::infinity(), inner = kInner;
        bool crowded = false;  // items are waiting to become active
        for (;;) {
            const std::int64_t n_found =
                outside(r_.data(), inside_.data(), g_.rows, s_.lambda1, s_.nonnegative, found_.data());
            const double before = gap;
            gap = gap_of(n_found);
            // Slow progress takes more sweeps a round, until rounding is all that is left.
            if (!crowded && gap >= 0.5 * before) inner *= 0.1;
            if (!(gap > s_.tolerance * half) || sweeps >= s_.max_sweeps || inner < kLeastInner) break;
            crowded = !activate(n_found);
            sweeps += descend(inner * gap, s_.max_sweeps - sweeps);
        }
        return result(half > 0 ? gap / half : 0.0, sweeps);
    }

  private:
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

    void begin(std::int64_t j, const BasicCsr<T>& start, std::int64_t row) {
        j_ = j;
        std::copy(g_.row(j), g_.row(j) + g_.rows, r_.begin());
        std::fill(inside_.begin(), inside_.end(), std::uint8_t(0));
        inside_[size(j)] = 1;
        active_.clear();
        values_.clear();
        square_.clear();
        draws_ = 0;
        for (std::int64_t q = start.rows ? start.indptr[row] : 0;
             q < (start.rows ? start.indptr[row + 1] : 0); ++q) {
            const T value = s_.nonnegative ? std::max(start.values[q], T(0)) : start.values[q];
            if (start.indices[q] == j || value == 0) continue;
            enter(start.indices[q], value);
        }
        move(std::vector<T>(active_.size(), T(0)));
    }

    void enter(std::int32_t item, T value) {
        active_.push_back(item);
        values_.push_back(value);
        inside_[size(item)] = 1;
    }

    // r -= G (b - before)
    void move(const std::vector<T>& before) {
        const T* rows[4];
        double scales[4];
        int n = 0;
        for (std::size_t a = 0; a < active_.size(); ++a) {
            if (values_[a] == before[a]) continue;
            rows[n] = g_.row(active_[a]);
            scales[n++] = static_cast<double>(values_[a]) - static_cast<double>(before[a]);
            if (n == 4) {
                subtract_rows(rows, scales, g_.rows, r_.data());
                n = 0;
            }
        }
        for (int i = 0; i < n; ++i) subtract_row(rows[i], scales[i], g_.rows, r_.data());
    }

    // An upper bound of what the objective is above its minimum, the smaller of two. With the residual
    // e = (x_j, 0) - (X, sqrt(lambda2) I) b of the ridge problem: the value of the dual at s e, where s
    // brings it into the feasible set (lambda1 > 0); and by strong convexity |subgradient|^2 / (2 lambda2).
    double gap_of(std::int64_t n_found) const {
        double bg = 0, bgb = 0, bb = 0, norm1 = 0, largest = 0, squares = 0;
        for (std::size_t a = 0; a < active_.size(); ++a) {
            const double b = values_[a], r = r_[size(active_[a])], g = g_.row(j_)[active_[a]];
            bg += b * g;
            bgb += b * (g - r);
            bb += b * b;
            norm1 += std::fabs(b);
            add_violation(r - s_.lambda2 * b, b, largest, squares);
        }
        for (std::int64_t f = 0; f < n_found; ++f)
            add_violation(r_[size(found_[size(f)])], 0.0, largest, squares);
        const double norm = static_cast<double>(diagonal_[j_]);
        const double error = norm - 2 * bg + bgb + s_.lambda2 * bb, correlation = norm - bg;
        const double most = std::max(largest, 0.0) + s_.lambda1;
        double scale = error > 0 ? std::max(correlation / error, 0.0) : 1.0;
        if (most > 0) scale = std::min(scale, s_.lambda1 / most);
        const double dual = scale * correlation - 0.5 * scale * scale * error;
        const double by_dual = 0.5 * error + s_.lambda1 * norm1 - dual;
        const double by_convexity = s_.lambda2 > 0 ? squares / (2 * s_.lambda2) : by_dual;
        return std::isnan(squares) ? squares : std::max(0.0, std::min(by_dual, by_convexity));
    }

    // `r` is minus the gradient of the smooth part: how far the coordinate is from its condition.
    void add_violation(double r, double b, double& largest, double& squares) const {
        const double excess = (s_.nonnegative ? r : std::fabs(r)) - s_.lambda1;
        const double violation = b > 0 ? r - s_.lambda1 : b < 0 ? r + s_.lambda1 : std::max(excess, 0.0);
        largest = std::max(largest, excess);
        squares += violation * violation;
    }

    // The items that have become zero leave; of those found outside the ones that promise most enter.
    // False when some have to wait.
    bool activate(std::int64_t n_found) {
        std::vector<std::int64_t> kept;
        for (std::size_t a = 0; a < active_.size(); ++a) {
            if (values_[a] != 0) kept.push_back(static_cast<std::int64_t>(a));
            else inside_[size(active_[a])] = 0;
        }
        for (std::size_t a = 0; a < kept.size(); ++a) {
            active_[a] = active_[size(kept[a])];
            values_[a] = values_[size(kept[a])];
        }
        active_.resize(kept.size());
        values_.resize(kept.size());
        square_.keep(kept);
        const std::int64_t room =
            std::max({kFirstItems, static_cast<std::int64_t>(kept.size()), n_found / 16});
        const auto promise = [this](std::int32_t i) {
            const double excess = std::fabs(r_[size(i)]) - s_.lambda1;
            return excess * excess / (static_cast<double>(diagonal_[i]) + s_.lambda2);
        };
        if (n_found > room)
            std::nth_element(found_.begin(), found_.begin() + room, found_.begin() + n_found,
                             [&](std::int32_t i, std::int32_t k) {
                                 const double p = promise(i), q = promise(k);
                                 return p > q || (p == q && i < k);
                             });
        std::sort(found_.begin(), found_.begin() + std::min(room, n_found));
        for (std::int64_t f = 0; f < std::min(room, n_found); ++f) enter(found_[size(f)], T(0));
        return n_found <= room;
    }

    // Sweeps over the active items until one gains less than `enough`.
    std::int64_t descend(double enough, std::int64_t most) {
        if (!square_.extend(g_, active_, static_cast<T>(s_.lambda2))) return descend_wide(enough, most);
        rest_.assign(size(square_.width()), T(0));
        for (std::size_t a = 0; a < active_.size(); ++a)
            rest_[a] = static_cast<T>(r_[size(active_[a])] - s_.lambda2 * values_[a]);
        const std::int64_t m = square_.size(), width = square_.width();
        const std::vector<T> before = values_;
        const T lambda1 = static_cast<T>(s_.lambda1);
        const double least = kLeastStep * enough / static_cast<double>(m);
        std::int64_t sweeps = 0;
        while (sweeps++ < most)
            if (!(sweep_of(square_.row(0), m, width, square_.stride(), lambda1, s_.nonnegative, least,
                           shuffled(m), rest_.data(), values_.data()) > enough))
                break;
        move(before);
        return std::min(sweeps, most);
    }

    // Another order for each sweep. In a fixed one items that all resemble each other, as popular ones
    // do, take up to n times as many sweeps (Sun & Ye 2021).
    const std::int32_t* shuffled(std::int64_t m) {
        order_.resize(size(m));
        std::iota(order_.begin(), order_.end(), 0);
        for (std::int64_t i = m - 1; i > 0; --i)
            std::swap(order_[size(i)],
                      order_[size(static_cast<std::int64_t>(draw(0, draws_++, static_cast<std::uint64_t>(i)) %
                                                            static_cast<std::uint64_t>(i + 1)))]);
        return order_.data();
    }

    // The same straight on G, for so many active items that their square would be too large.
    std::int64_t descend_wide(double enough, std::int64_t most) {
        std::int64_t sweeps = 0;
        while (sweeps++ < most) {
            double fall = 0;
            const std::int32_t* const order = shuffled(static_cast<std::int64_t>(active_.size()));
            for (std::size_t place = 0; place < active_.size(); ++place) {
                const std::size_t a = size(order[place]);
                const std::int64_t i = active_[a];
                const double h = static_cast<double>(diagonal_[i]) + s_.lambda2, b = values_[a];
                const double rest = r_[size(i)] - s_.lambda2 * b;
                const T value = static_cast<T>(minimum<double>(b, rest, h, s_.lambda1, s_.nonnegative));
                const double step = static_cast<double>(value) - b;
                if (step == 0) continue;
                values_[a] = value;
                subtract_row(g_.row(i), step, g_.rows, r_.data());
                fall += 0.5 * h * step * step;
            }
            if (!(fall > enough)) break;
        }
        return std::min(sweeps, most);
    }

    SlimColumn<T> result(double gap, std::int64_t sweeps) const {
        std::vector<std::size_t> order;
        for (std::size_t a = 0; a < active_.size(); ++a)
            if (values_[a] != 0) order.push_back(a);
        std::sort(order.begin(), order.end(),
                  [this](std::size_t a, std::size_t c) { return active_[a] < active_[c]; });
        SlimColumn<T> column{{}, {}, gap, sweeps};
        for (const std::size_t a : order) {
            column.items.push_back(active_[a]);
            column.values.push_back(values_[a]);
        }
        return column;
    }

    Matrix<const T> g_;
    SlimSettings s_;
    const T* diagonal_;
    std::int64_t j_ = 0;
    std::vector<double> r_;             // g_j - G b, for every item
    std::vector<std::uint8_t> inside_;  // active, or j itself
    std::vector<std::int32_t> active_;
    std::vector<T> values_;  // b of the active items
    std::vector<std::int32_t> found_;
    Square<T> square_;
    std::vector<std::int32_t> order_;
    std::uint64_t draws_ = 0;
    std::vector<T> rest_;  // of the active items: r - lambda2 b
};

}  // namespace

template <class T> void slim_columns(Matrix<const T> g, Vector<const std::int32_t> columns,
                                     const BasicCsr<T>& start, const SlimSettings& settings,
                                     std::vector<SlimColumn<T>>& out, int n_threads) {
    std::vector<T> diagonal(static_cast<std::size_t>(g.rows));
    for (std::int64_t i = 0; i < g.rows; ++i) diagonal[static_cast<std::size_t>(i)] = g.row(i)[i];
    out.resize(static_cast<std::size_t>(columns.size));
    Spares<Solver<T>> solvers(n_threads);
    parallel_for(columns.size, 1, n_threads, [&](std::int64_t c, std::int64_t) {
        const typename Spares<Solver<T>>::Lease solver(
            solvers, [&] { return std::make_unique<Solver<T>>(g, settings, diagonal.data()); });
        out[static_cast<std::size_t>(c)] = solver.get()->solve(columns[c], start, c);
    });
}

#define PYREC_INSTANTIATE(T)                                                                    \
    template void slim_columns(Matrix<const T>, Vector<const std::int32_t>, const BasicCsr<T>&, \
                               const SlimSettings&, std::vector<SlimColumn<T>>&, int);
PYREC_INSTANTIATE(float)
PYREC_INSTANTIATE(double)

}  // namespace pyrec
