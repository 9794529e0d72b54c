#pragma once
#include <cstdint>
#include <functional>

namespace pyrec {

// Calls body(begin, end) over disjoint ranges that cover [0, n), on up to n_threads threads.
// Ranges are `grain` long whatever n_threads is, so results never depend on it. The first exception
// wins. Nested and concurrent calls are safe: a pool that is busy lends no threads.
void parallel_for(std::int64_t n, std::int64_t grain, int n_threads,
                  const std::function<void(std::int64_t, std::int64_t)>& body);

}  // namespace pyrec
