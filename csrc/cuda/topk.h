#pragma once
#include "core/topk.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// More than so many are not selected here.
constexpr std::int64_t kMostSelected = 1024;

// In how many parts the rows of a matrix are best selected: several where rows are too few to keep a GPU
// busy.
std::int64_t topk_parts(std::int64_t rows, std::int64_t cols);

// As pyrec::topk, for k <= kMostSelected; every row is read once. `partial` is working space for the best of
// the parts: (rows * parts, k), or no data for one part. The result does not depend on how many there are.
void topk(const Queue& queue, Matrix<const float> scores, const Candidates& candidates,
          Matrix<std::int32_t> items, Matrix<float> best, Matrix<std::uint64_t> partial);

}  // namespace pyrec::cuda
