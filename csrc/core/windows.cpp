#include "core/windows.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace pyrec {
namespace {

constexpr std::int64_t kUsers = 4;

// Calls body(step, first, last) for each step of a sequence, with its distinct targets, ascending.
template <class Body>
void each_window(const std::int32_t* items, std::int64_t size, std::int64_t k, const Body& body) {
    std::vector<std::int32_t> targets;
    if (k == 0 || k >= size) {
        // From the end, where each step adds one item to those of the step after it.
        for (std::int64_t t = size - 2; t >= 0; --t) {
            const auto place = std::lower_bound(targets.begin(), targets.end(), items[t + 1]);
            if (place == targets.end() || *place != items[t + 1]) targets.insert(place, items[t + 1]);
            body(t, targets.data(), targets.data() + targets.size());
        }
        return;
    }
    for (std::int64_t t = 0; t + 1 < size; ++t) {
        targets.assign(items + t + 1, items + std::min(t + 1 + k, size));
        std::sort(targets.begin(), targets.end());
        const auto last = std::unique(targets.begin(), targets.end());
        body(t, targets.data(), targets.data() + (last - targets.begin()));
    }
}

}  // namespace

void count_windows(const Sequences& s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                   std::int64_t k, Vector<std::int64_t> sizes, int n_threads) {
    parallel_for(users.size, kUsers, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t u = begin; u < end; ++u)
            each_window(s.items + s.offsets[users[u]], s.size(users[u]), k,
                        [&](std::int64_t t, const std::int32_t* from, const std::int32_t* to) {
                            sizes[first[u] + t] = to - from;
                        });
    });
}

void take_windows(const Sequences& s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                  std::int64_t k, bool weighted, Vector<const std::int64_t> indptr,
                  Vector<std::int32_t> inputs, Vector<std::int32_t> indices, Vector<float> values,
                  int n_threads) {
    parallel_for(users.size, kUsers, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t u = begin; u < end; ++u) {
            const std::int32_t* items = s.items + s.offsets[users[u]];
            std::copy(items, items + (first[u + 1] - first[u]), inputs.data + first[u]);
            each_window(items, s.size(users[u]), k,
                        [&](std::int64_t t, const std::int32_t* from, const std::int32_t* to) {
                            const std::int64_t q = indptr[first[u] + t];
                            // Borrowed arrays may have changed since they were counted.
                            if (to - from > indptr[first[u] + t + 1] - q) return;
                            std::copy(from, to, indices.data + q);
                            const float value = weighted ? 1.0f / static_cast<float>(to - from) : 1.0f;
                            std::fill(values.data + q, values.data + q + (to - from), value);
                        });
        }
    });
}

}  // namespace pyrec
