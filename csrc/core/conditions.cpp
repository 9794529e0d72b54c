#include "core/conditions.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/parallel.h"
#include "core/random.h"

namespace pyrec {
namespace {

constexpr std::int64_t kRows = 1024, kExamples = 64;

// Which conditions a row knows, a bit each.
class Known {
  public:
    explicit Known(const Examples& e)
        : e_(e), words_(static_cast<std::size_t>((e.items.cols + 63) / 64)), others_(words_.size()) {}

    // Calls body(condition), ascending, for each condition of the row.
    template <class Body> void each(std::int64_t row, const Body& body) {
        fill(e_.x, row, words_);
        if (!e_.same_targets) {
            fill(e_.targets, row, others_);
            for (std::size_t w = 0; w < words_.size(); ++w) words_[w] &= others_[w];
        }
        for (std::size_t w = 0; w < words_.size(); ++w)
            for (std::uint64_t left = words_[w]; left != 0; left &= left - 1)
                body(static_cast<std::int32_t>(64 * w) + __builtin_ctzll(left));
    }

  private:
    void fill(const Csr& x, std::int64_t row, std::vector<std::uint64_t>& words) const {
        if (e_.masks.size != 0) {
            std::uint64_t word = 0;
            for (std::int64_t q = x.indptr[row]; q < x.indptr[row + 1]; ++q) word |= e_.masks[x.indices[q]];
            words[0] = word;
            return;
        }
        std::fill(words.begin(), words.end(), 0);
        for (std::int64_t q = x.indptr[row]; q < x.indptr[row + 1]; ++q) {
            const std::int32_t item = x.indices[q];
            for (std::int64_t p = e_.items.indptr[item]; p < e_.items.indptr[item + 1]; ++p) {
                const auto condition = static_cast<std::uint32_t>(e_.items.indices[p]);
                words[condition / 64] |= std::uint64_t{1} << condition % 64;
            }
        }
    }

    const Examples& e_;
    std::vector<std::uint64_t> words_, others_;
};

bool is_empty(const Csr& x, std::int64_t row) { return x.indptr[row] == x.indptr[row + 1]; }

}  // namespace

void condition_masks(const Csr& items, Vector<std::uint64_t> masks) {
    for (std::int64_t item = 0; item < items.rows; ++item) {
        masks[item] = 0;
        for (std::int64_t p = items.indptr[item]; p < items.indptr[item + 1]; ++p)
            masks[item] |= std::uint64_t{1} << items.indices[p];
    }
}

void count_examples(const Examples& e, Vector<std::int64_t> alone, Vector<std::int64_t> paired,
                    Vector<std::int64_t> conditions, int n_threads) {
    std::fill(conditions.data, conditions.data + conditions.size, 0);
    std::mutex adding;
    parallel_for(e.x.rows, kRows, n_threads, [&](std::int64_t begin, std::int64_t end) {
        Known known(e);
        std::vector<std::int64_t> found(static_cast<std::size_t>(conditions.size), 0);
        for (std::int64_t row = begin; row < end; ++row) {
            alone[row] = !is_empty(e.x, row) && !is_empty(e.targets, row);
            paired[row] = 0;
            known.each(row, [&](std::int32_t condition) {
                ++paired[row];
                ++found[static_cast<std::size_t>(condition)];
            });
        }
        const std::lock_guard<std::mutex> lock(adding);
        for (std::int64_t c = 0; c < conditions.size; ++c)
            conditions[c] += found[static_cast<std::size_t>(c)];
    });
}

void find_examples(const Examples& e, Vector<const std::int64_t> numbers, Vector<std::int64_t> rows,
                   Vector<std::int32_t> conditions, int n_threads) {
    parallel_for(numbers.size, kExamples, n_threads, [&](std::int64_t begin, std::int64_t end) {
        Known known(e);
        for (std::int64_t b = begin; b < end; ++b) {
            const bool is_alone = numbers[b] < e.n_alone();
            const auto& before = is_alone ? e.alone : e.paired;
            std::int64_t left = is_alone ? numbers[b] : numbers[b] - e.n_alone();
            // The last row before which there are no more examples than that.
            const std::int64_t* place = std::upper_bound(before.data, before.data + before.size, left);
            rows[b] = place - before.data - 1;
            conditions[b] = -1;
            if (is_alone) continue;
            left -= before[rows[b]];
            known.each(rows[b], [&](std::int32_t condition) {
                if (left-- == 0) conditions[b] = condition;
            });
        }
    });
}

void conditioned_inputs(const Examples& e, Vector<const std::int64_t> rows,
                        Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                        Vector<std::int32_t> indices, Vector<float> values, int n_threads) {
    parallel_for(rows.size, kExamples, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t from = e.x.indptr[rows[b]];
            const auto size = static_cast<std::size_t>(e.x.indptr[rows[b] + 1] - from);
            if (size != 0) {
                std::memcpy(indices.data + indptr[b], e.x.indices + from, size * sizeof(std::int32_t));
                std::memcpy(values.data + indptr[b], e.x.values + from, size * sizeof(float));
            }
            if (conditions[b] < 0) continue;
            indices[indptr[b + 1] - 1] = static_cast<std::int32_t>(e.x.cols) + conditions[b];
            values[indptr[b + 1] - 1] = 1.0f;
        }
    });
}

void count_targets(const Examples& e, Vector<const std::int64_t> rows, Vector<const std::int32_t> conditions,
                   Vector<std::int64_t> sizes, int n_threads) {
    parallel_for(rows.size, kExamples, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = e.targets.indptr[rows[b]], last = e.targets.indptr[rows[b] + 1];
            std::int64_t size = conditions[b] < 0 ? last - first : 0;
            if (conditions[b] >= 0)
                for (std::int64_t q = first; q < last; ++q)
                    size += has_condition(e, e.targets.indices[q], conditions[b]);
            sizes[b] = size;
        }
    });
}

void conditioned_targets(const Examples& e, Vector<const std::int64_t> rows,
                         Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                         Vector<std::int32_t> indices, Vector<float> values, int n_threads) {
    parallel_for(rows.size, kExamples, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = e.targets.indptr[rows[b]], last = e.targets.indptr[rows[b] + 1];
            // Borrowed arrays may have changed since they were counted: never beyond the row's end.
            std::int64_t to = indptr[b];
            for (std::int64_t q = first; q < last && to < indptr[b + 1]; ++q) {
                indices[to] = e.targets.indices[q];
                values[to] = e.targets.values[q];
                to += conditions[b] < 0 ? 1 : has_condition(e, e.targets.indices[q], conditions[b]);
            }
        }
    });
}

void balanced_examples(const Examples& e, Vector<const std::int64_t> counts, std::int64_t n_each,
                       std::uint64_t seed, std::uint64_t epoch, Vector<std::int64_t> numbers) {
    const auto n_conditions = static_cast<std::size_t>(counts.size);
    std::vector<std::int64_t> left(counts.data, counts.data + counts.size), wanted(n_conditions);
    for (std::size_t c = 0; c < n_conditions; ++c) wanted[c] = std::min(n_each, left[c]);
    Known known(e);
    std::int64_t number = e.n_alone(), to = 0;
    for (std::int64_t row = 0; row < e.x.rows; ++row)
        known.each(row, [&](std::int32_t condition) {
            const auto c = static_cast<std::size_t>(condition);
            const std::uint64_t drawn = below(draw(seed, epoch, static_cast<std::uint64_t>(number)),
                                              static_cast<std::uint64_t>(left[c]));
            if (static_cast<std::int64_t>(drawn) < wanted[c] && to < numbers.size) {
                numbers[to++] = number;
                --wanted[c];
            }
            --left[c];
            ++number;
        });
}

}  // namespace pyrec
