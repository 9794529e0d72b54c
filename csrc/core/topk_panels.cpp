#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "core/hits.h"
#include "core/isa.h"
#include "core/keys.h"
#include "core/panels.h"
#include "core/parallel.h"

namespace pyrec {
namespace {

// A panel is read from memory once a block of users: they are as many as have room for their hits.
constexpr std::int64_t kBlockBytes = 64 << 20, kBlockUsers = 1 << 16;
constexpr std::int64_t kChunk = 256;      // users a task, at most
constexpr std::int64_t kFewUsers = 4096;  // up to here no thread waits for the others at each panel
constexpr std::int64_t kAhead = 32;       // entries whose rows are fetched ahead
constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using Floats = float __attribute__((vector_size(64), aligned(4), may_alias));
using Words = std::uint32_t __attribute__((vector_size(64), aligned(4), may_alias));
constexpr int kVectors = kPanel / 16;

// What the values of a history allow: to be left out, or a bound by the rows' largest weights.
enum class Kind : std::uint8_t { ones, not_negative, any };

// The histories of a block: user u has the entries begin[u] .. begin[u + 1] of `values`, and of `rows`,
// the places of the items, which go on for kAhead entries after the last.
struct Histories {
    const std::int64_t* begin;
    const float* values;
    const std::uint32_t* rows;
    const Kind* kinds;
};

// The first V vectors of a row.
template <int V> PYREC_INLINE void read(const float* row, Floats* y) {
    for (int v = 0; v < V; ++v) y[v] = *reinterpret_cast<const Floats*>(row + 16 * v);
}

template <int V> PYREC_INLINE void read(const Bf16* row, Floats* y) {
    for (int v = 0; v < V; v += 2) {
        const Words x = *reinterpret_cast<const Words*>(row + 16 * v);
        y[v] = reinterpret_cast<Floats>(x << 16);
        y[v + 1] = reinterpret_cast<Floats>(x & 0xffff0000u);
    }
}

template <int V, class T> PYREC_INLINE void fetch(const T* row) {
    constexpr int a_line = 64 / sizeof(T);
    for (int c = 0; c < 16 * V; c += a_line) __builtin_prefetch(row + c);
}

// y += sum over a user's entries of value * row, in V vectors, added as sparse_row adds them: the same
// bits. Values that are all 1 change none, and are left out.
template <int V, bool ones, class T> PYREC_INLINE void add_rows(const T* panel, const std::uint32_t* rows,
                                                                const float* values, std::int64_t n,
                                                                Floats* y) {
    std::int64_t q = 0;
    for (; q + 4 <= n; q += 4) {
        for (std::int64_t z = q; z < q + 4; ++z) fetch<V>(panel + rows[z + kAhead] * kPanel);
        Floats a[V], b[V], c[V], d[V];
        read<V>(panel + rows[q] * kPanel, a);
        read<V>(panel + rows[q + 1] * kPanel, b);
        read<V>(panel + rows[q + 2] * kPanel, c);
        read<V>(panel + rows[q + 3] * kPanel, d);
        if constexpr (ones) {
            for (int v = 0; v < V; ++v) y[v] += (a[v] + b[v]) + (c[v] + d[v]);
        } else {
            const float p = values[q], r = values[q + 1], s = values[q + 2], t = values[q + 3];
            for (int v = 0; v < V; ++v) y[v] += (p * a[v] + r * b[v]) + (s * c[v] + t * d[v]);
        }
    }
    for (; q < n; ++q) {
        Floats a[V];
        read<V>(panel + rows[q] * kPanel, a);
        for (int v = 0; v < V; ++v)
            if constexpr (ones) y[v] += a[v];
            else y[v] += values[q] * a[v];
    }
}

// y = start + the sum.
template <int V, class T>
PYREC_INLINE void score(const T* panel, const float* start, const Histories& h, std::int64_t u, Floats* y) {
    const std::int64_t first = h.begin[u] - h.begin[0], n = h.begin[u + 1] - h.begin[u];
    const std::uint32_t* const rows = h.rows + first;
    const float* const values = h.values + h.begin[u];
    read<V>(start, y);
    if (h.kinds[u] == Kind::ones) add_rows<V, true>(panel, rows, values, n, y);
    else add_rows<V, false>(panel, rows, values, n, y);
}

// A panel's columns: their items and what their scores start from, a NaN where there is no candidate.
struct Columns {
    const std::int32_t* items;
    const float* start;
};

// The users of a list, which has an entry more, meet a panel. Returns after the first whose hits must
// be pruned: how many were done.
template <class T> PYREC_INLINE std::int64_t meet(const T* panel, const Columns& columns, const Histories& h,
                                                  const std::int32_t* users, std::int64_t n, Hits& hits) {
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t u = users[i], next = users[i + 1];
        if (next != u + 1) {  // or the entries ahead are the next user's anyway
            const std::int64_t first = h.begin[next] - h.begin[0], size = h.begin[next + 1] - h.begin[next];
            for (std::int64_t q = first; q < first + std::min(size, kAhead); ++q)
                fetch<kVectors>(panel + h.rows[q] * kPanel);
        }
        Floats y[kVectors];
        score<kVectors>(panel, columns.start, h, u, y);
        float scores[kPanel];
        for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Floats*>(scores + 16 * v) = y[v];
        const float least = hits.least[u];
        int reach = 0;
#pragma omp simd reduction(| : reach)
        for (std::int64_t c = 0; c < kPanel; ++c) reach |= scores[c] >= least;
        if (!reach) continue;
        float* const found = hits.scores.get() + u * hits.capacity();
        std::int32_t* const items = hits.items.get() + u * hits.capacity();
        const std::int32_t limit = hits.limits[u];
        std::int32_t count = hits.counts[u];
        for (std::int64_t c = 0; c < kPanel; ++c) {
            found[count] = scores[c];
            items[count] = columns.items[c];
            count += (scores[c] > least) | ((scores[c] == least) & (columns.items[c] < limit));
        }
        hits.counts[u] = count;
        if (count > hits.room) return i + 1;
    }
    return n;
}

// No score of user u in the panel p of a group of 64 is above bounds[p * (end - begin) + u - begin]:
// sums of larger numbers in the same order are not smaller, rounded or not.
PYREC_INLINE void bound(const float* panel, const float* start, const Histories& h, std::int64_t begin,
                        std::int64_t end, float* bounds) {
    for (std::int64_t u = begin; u < end; ++u) {
        Floats y[kVectors];
        if (h.kinds[u] == Kind::any)
            for (int v = 0; v < kVectors; ++v) y[v] = Floats{} + std::numeric_limits<float>::infinity();
        else score<kVectors>(panel, start, h, u, y);
        float row[kPanel];
        for (int v = 0; v < kVectors; ++v) *reinterpret_cast<Floats*>(row + 16 * v) = y[v];
        for (std::int64_t p = 0; p < kPanel; ++p) bounds[p * (end - begin) + u - begin] = row[p];
    }
}

// The leaves. One score on its own is summed in the vectors that hold it, in the same order.
#define PYREC_LEAVES(T, V)                                                                           \
    PYREC_CLONES std::int64_t meet_panel(const T* panel, const Columns& columns, const Histories& h, \
                                         const std::int32_t* users, std::int64_t n, Hits& hits) {    \
        return meet(panel, columns, h, users, n, hits);                                              \
    }                                                                                                \
    PYREC_CLONES float score_of_place(const T* panel, const float* start, const Histories& h,        \
                                      std::int64_t u, std::int64_t c) {                              \
        const std::int64_t first = c / (16 * V) * (16 * V);                                          \
        Floats y[V];                                                                                 \
        score<V>(panel + first, start + first, h, u, y);                                             \
        return y[c % (16 * V) / 16][c % 16];                                                         \
    }
PYREC_LEAVES(float, 1)
PYREC_LEAVES(Bf16, 2)
#undef PYREC_LEAVES

PYREC_CLONES void bound_panels(const float* panel, const float* start, const Histories& h, std::int64_t begin,
                               std::int64_t end, float* bounds) {
    bound(panel, start, h, begin, end, bounds);
}

// Users whose bound reaches what they have. Returns how many.
PYREC_CLONES std::int64_t reaching_users(const float* bounds, const float* least, const Histories& h,
                                         std::int64_t begin, std::int64_t end, std::int32_t* users) {
    std::int64_t n = 0, entries = 0;
    for (std::int64_t u = begin; u < end; ++u) {
        const bool reaches = !(bounds[u - begin] < least[u]);  // a NaN says nothing
        users[n] = static_cast<std::int32_t>(u);
        n += reaches;
        entries += reaches ? h.begin[u + 1] - h.begin[u] : 0;
    }
    // To leave out few costs more than it saves: rows fetched ahead in vain, and others too late.
    if (entries * 4 < (h.begin[end] - h.begin[begin]) * 3) return n;
    for (std::int64_t u = begin; u < end; ++u) users[u - begin] = static_cast<std::int32_t>(u);
    return end - begin;
}

// What is the same for all blocks.
template <class T> class Ranking {
  public:
    Ranking(const Csr& x, const Panels<T>& panels, Vector<const float> offset, const Candidates& candidates,
            Matrix<std::int32_t> items, Matrix<float> best, int n_threads)
        : x_(x), panels_(panels), candidates_(candidates), items_(items), best_(best), n_threads_(n_threads) {
        places_.resize(static_cast<std::size_t>(x.cols));
        for (std::int64_t c = 0; c < x.cols; ++c)
            places_[static_cast<std::size_t>(panels.order[c])] = static_cast<std::uint32_t>(c);
        set_starts(offset);
        // What holds for all rows is in the starts by now.
        for (ItemLists* lists : {&candidates_.seen, &candidates_.deny})
            if (!lists->indptr) *lists = {};
    }

    void run() {
        const bool allowed_a_row = candidates_.allow.present && candidates_.allow.indptr;
        const std::int64_t hit_bytes = 8 * Hits::capacity(std::min(items_.cols, x_.cols));
        const std::int64_t block = std::clamp(kBlockBytes / hit_bytes, kChunk, kBlockUsers);
        std::unique_ptr<Hits> hits;
        std::unique_ptr<float[]> bounds;
        if (!allowed_a_row) {
            hits = std::make_unique<Hits>(std::min(block, x_.rows), std::min(items_.cols, x_.cols));
            bounds.reset(new float[static_cast<std::size_t>(std::min(block, x_.rows) * kPanel)]);
        }
        for (std::int64_t first = 0; first < x_.rows; first += block) {
            const std::int64_t users = std::min(block, x_.rows - first);
            const Histories h = histories(first, users);
            if (allowed_a_row) {
                rank_allowed(h, first, users);
            } else {
                hits->clear(users);
                rank(h, first, users, *hits, bounds.get());
            }
        }
    }

  private:
    // Offsets by place; a NaN, which no sum leaves, where there is no item or none that may be had.
    void set_starts(Vector<const float> offset) {
        const std::int64_t n_panels = panels_.count();
        starts_.assign(static_cast<std::size_t>(n_panels * kPanel), kNaN);
        ItemSet out(x_.cols), in(x_.cols);
        for (const ItemLists& lists : {candidates_.seen, candidates_.deny})
            if (!lists.indptr) out.add(lists, 0);
        const bool all = !candidates_.allow.present || candidates_.allow.indptr;
        if (!all) in.add(candidates_.allow, 0);
        bound_starts_.assign(static_cast<std::size_t>(Panels<T>::panels(n_panels) * kPanel), kNone);
        for (std::int64_t c = 0; c < x_.cols; ++c) {
            const std::int64_t item = panels_.order[c];
            if (out.has(item) || !(all || in.has(item))) continue;
            const float start = offset.data ? offset[item] : 0.0f;
            starts_[static_cast<std::size_t>(c)] = start;
            float& most = bound_starts_[static_cast<std::size_t>(c / kPanel)];
            most = start > most ? start : most;
        }
    }

    Histories histories(std::int64_t first, std::int64_t users) {
        const std::int64_t* const indptr = x_.indptr + first;
        kinds_.resize(static_cast<std::size_t>(users));
        rows_.resize(static_cast<std::size_t>(indptr[users] - indptr[0] + kAhead));
        std::fill(rows_.end() - kAhead, rows_.end(), 0u);
        parallel_for(users, kChunk, n_threads_, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t u = begin; u < end; ++u) {
                bool ones = true, not_negative = true;
                for (std::int64_t q = indptr[u]; q < indptr[u + 1]; ++q) {
                    rows_[static_cast<std::size_t>(q - indptr[0])] =
                        places_[static_cast<std::size_t>(x_.indices[q])];
                    ones &= x_.values[q] == 1;
                    not_negative &= !(x_.values[q] < 0);
                }
                kinds_[static_cast<std::size_t>(u)] = ones           ? Kind::ones
                                                      : not_negative ? Kind::not_negative
                                                                     : Kind::any;
            }
        });
        return {indptr, x_.values, rows_.data(), kinds_.data()};
    }

    void rank(const Histories& h, std::int64_t first, std::int64_t users, Hits& hits, float* bounds) {
        const std::int64_t n_panels = panels_.count();
        const std::int64_t chunk =
            users <= kFewUsers ? std::min<std::int64_t>(kChunk, (users + 15) / 16) : kChunk;
        // All threads at the same panel: it is in the cache that they share.
        const std::int64_t step = users <= kFewUsers ? n_panels : 1;
        for (std::int64_t p = 0; p < n_panels; p += step)
            parallel_for(users, chunk, n_threads_, [&](std::int64_t begin, std::int64_t end) {
                Pruner pruner(hits, candidates_.seen, candidates_.deny, first, x_.cols);
                for (std::int64_t z = p; z < p + step; ++z)
                    meet_users(h, z, begin, end, hits, pruner, bounds + begin * kPanel);
            });
        parallel_for(users, chunk, n_threads_, [&](std::int64_t begin, std::int64_t end) {
            Pruner pruner(hits, candidates_.seen, candidates_.deny, first, x_.cols);
            for (std::int64_t u = begin; u < end; ++u)
                pruner.write(u, items_.cols, items_.row(first + u), best_.row(first + u));
        });
    }

    void meet_users(const Histories& h, std::int64_t p, std::int64_t begin, std::int64_t end, Hits& hits,
                    Pruner& pruner, float* bounds) {
        const std::int64_t group = p / kPanel;
        if (p % kPanel == 0)
            bound_panels(panels_.bound(group), bound_starts_.data() + group * kPanel, h, begin, end, bounds);
        if (bound_starts_[static_cast<std::size_t>(p)] == kNone) return;  // no candidates
        const Columns columns{panels_.order + p * kPanel, starts_.data() + p * kPanel};
        std::int32_t users[kChunk + 1];
        const std::int64_t n =
            reaching_users(bounds + p % kPanel * (end - begin), hits.least.get(), h, begin, end, users);
        users[n] = users[std::max<std::int64_t>(n - 1, 0)] + 1;  // ahead of the last there is nothing
        for (std::int64_t i = 0; i < n;) {
            i += meet_panel(panels_.panel(p), columns, h, users + i, n - i, hits);
            if (hits.counts[users[i - 1]] > hits.room) pruner.prune(users[i - 1]);
        }
    }

    // Few items a row: each is summed on its own.
    void rank_allowed(const Histories& h, std::int64_t first, std::int64_t users) {
        parallel_for(users, kChunk, n_threads_, [&](std::int64_t begin, std::int64_t end) {
            ItemSet excluded(x_.cols);
            std::vector<std::uint64_t> keys, sorted;
            for (std::int64_t u = begin; u < end; ++u) {
                const std::int64_t row = first + u;
                excluded.add(candidates_.seen, row);
                excluded.add(candidates_.deny, row);
                keys.clear();
                for (auto j = candidates_.allow.begin(row); j < candidates_.allow.end(row); ++j) {
                    if (excluded.has(*j)) continue;
                    const std::int64_t c = places_[static_cast<std::size_t>(*j)], p = c / kPanel;
                    const float score =
                        score_of_place(panels_.panel(p), starts_.data() + p * kPanel, h, u, c % kPanel);
                    if (score > kNone) keys.push_back(key_of(score, *j));
                }
                excluded.remove(candidates_.seen, row);
                excluded.remove(candidates_.deny, row);
                const std::int64_t found = std::min(items_.cols, static_cast<std::int64_t>(keys.size()));
                sorted.resize(static_cast<std::size_t>(found));
                sort_keys(keys, found, sorted.data(), {nullptr, nullptr});
                write_sorted(sorted.data(), found, items_.cols, items_.row(row), best_.row(row));
            }
        });
    }

    const Csr& x_;
    const Panels<T>& panels_;
    Candidates candidates_;
    Matrix<std::int32_t> items_;
    Matrix<float> best_;
    int n_threads_;
    std::vector<std::uint32_t> places_;  // of each item
    std::vector<float> starts_, bound_starts_;
    std::vector<std::uint32_t> rows_;  // of a block's entries
    std::vector<Kind> kinds_;
};

}  // namespace

template <class T> void topk_panels(const Csr& x, const Panels<T>& panels, Vector<const float> offset,
                                    const Candidates& candidates, Matrix<std::int32_t> items,
                                    Matrix<float> best, int n_threads) {
    if (items.cols == 0) return;
    if (x.cols > 0) return Ranking<T>(x, panels, offset, candidates, items, best, n_threads).run();
    for (std::int64_t u = 0; u < x.rows; ++u) write_sorted(nullptr, 0, items.cols, items.row(u), best.row(u));
}

template void topk_panels(const Csr&, const Panels<float>&, Vector<const float>, const Candidates&,
                          Matrix<std::int32_t>, Matrix<float>, int);
template void topk_panels(const Csr&, const Panels<Bf16>&, Vector<const float>, const Candidates&,
                          Matrix<std::int32_t>, Matrix<float>, int);

}  // namespace pyrec
