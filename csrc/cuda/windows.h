#pragma once
#include "core/windows.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// Numbers of memory that windows need for users of so many steps; 0 for small k.
std::int64_t windows_workspace(std::int64_t n_users, std::int64_t n_steps, std::int64_t k);

// As in core/windows.h. What the first pass leaves in the workspace the second one reads.
void count_windows(const Queue& queue, const Sequences& s, Vector<const std::int64_t> users,
                   Vector<const std::int64_t> first, std::int64_t k, Vector<std::int64_t> sizes,
                   Vector<std::int32_t> workspace);
void take_windows(const Queue& queue, const Sequences& s, Vector<const std::int64_t> users,
                  Vector<const std::int64_t> first, std::int64_t k, bool weighted,
                  Vector<const std::int64_t> indptr, Vector<std::int32_t> inputs,
                  Vector<std::int32_t> indices, Vector<float> values, Vector<std::int32_t> workspace);

}  // namespace pyrec::cuda
