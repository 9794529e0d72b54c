#include "core/permutation.h"

#include "core/parallel.h"

namespace pyrec {

void permuted(std::int64_t n, std::uint64_t seed, std::uint64_t epoch, std::int64_t first,
              Vector<std::int64_t> out, int n_threads) {
    const Permutation order(n, seed, epoch);
    parallel_for(out.size, 1 << 12, n_threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) out[i] = order(first + i);
    });
}

}  // namespace pyrec
