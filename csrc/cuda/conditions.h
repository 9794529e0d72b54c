#pragma once
#include "core/conditions.h"
#include "cuda/device.h"

namespace pyrec::cuda {

// As in core/conditions.h.
void find_examples(const Queue& queue, const Examples& examples, Vector<const std::int64_t> numbers,
                   Vector<std::int64_t> rows, Vector<std::int32_t> conditions);
void conditioned_inputs(const Queue& queue, const Examples& examples, Vector<const std::int64_t> rows,
                        Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                        Vector<std::int32_t> indices, Vector<float> values);
void count_targets(const Queue& queue, const Examples& examples, Vector<const std::int64_t> rows,
                   Vector<const std::int32_t> conditions, Vector<std::int64_t> sizes);
void conditioned_targets(const Queue& queue, const Examples& examples, Vector<const std::int64_t> rows,
                         Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                         Vector<std::int32_t> indices, Vector<float> values);

}  // namespace pyrec::cuda
