#pragma once
#include "core/view.h"

namespace pyrec {

// out[b, j] = 1 for round(share * n) of the n items that row b does not hold, drawn without replacement,
// each set of them as likely as any other; 0 for the others; for the items of the row
// `with_observed`. The draw depends on seed, step and b only.
//
// x is a pattern: its values are not read.
void negatives(const Csr& x, double share, std::uint64_t seed, std::uint64_t step, bool with_observed,
               Matrix<bool> out, int n_threads);

}  // namespace pyrec
