#include "cuda/sampler.h"
#include "cuda/search.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 256;
// Floats that a block clears, then writes its entries over: few enough that what all running blocks clear
// meanwhile can stay in the second-level cache, and memory be written once.
constexpr std::int64_t kSpan = 8192;
constexpr int kFewest = 8;  // threads for a row of a span

// A thread an entry, however long the rows are.
__global__ void take_entries(Csr x, Vector<const std::int64_t> numbers, Vector<const std::int64_t> indptr,
                             Vector<std::int32_t> items, Vector<float> values) {
    const std::int64_t q = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (q >= items.size) return;
    const std::int64_t b = row_of(indptr.data, numbers.size, q);
    const std::int64_t from = x.indptr[numbers[b]] + (q - indptr[b]);
    items[q] = x.indices[from];
    values[q] = x.values[from];
}

// Zeros; `out` is at 16 bytes where the whole matrix is.
__device__ void clear(float* out, std::int64_t n) {
    std::int64_t done = 0;
    if (reinterpret_cast<std::uintptr_t>(out) % 16 == 0) {
        done = n / 4 * 4;
        for (std::int64_t j = threadIdx.x; j < n / 4; j += kThreads)
            reinterpret_cast<float4*>(out)[j] = float4{0.0f, 0.0f, 0.0f, 0.0f};
    }
    for (std::int64_t j = done + threadIdx.x; j < n; j += kThreads) out[j] = 0.0f;
}

// A block a span of the matrix: parts of two rows, or many narrow ones.
__global__ void take_spans(Csr x, const std::int64_t* numbers, Matrix<float> out) {
    const std::int64_t cols = out.cols, all = out.rows * cols;
    const std::int64_t begin = blockIdx.x * kSpan, end = begin + kSpan < all ? begin + kSpan : all;
    clear(out.data + begin, end - begin);
    __syncthreads();
    const std::int64_t first = begin / cols, last = (end - 1) / cols;
    int group = kThreads;  // threads that have a row together
    while (group > kFewest && kThreads / group < last - first + 1) group /= 2;
    for (std::int64_t b = first + threadIdx.x / group; b <= last; b += kThreads / group) {
        const std::int64_t row = numbers == nullptr ? b : numbers[b];
        // Columns within the span.
        const std::int64_t from = begin - b * cols, to = b == last ? end - b * cols : cols;
        std::int64_t q = x.indptr[row];
        const std::int64_t stop = x.indptr[row + 1];
        if (from > 0) q = first_from(x.indices, q, stop, from);
        for (q += threadIdx.x % group; q < stop; q += group) {
            const std::int64_t item = x.indices[q];
            if (item >= to) break;
            out.row(b)[item] = x.values[q];
        }
    }
}

}  // namespace

void take_rows(const Queue& queue, const Csr& x, Vector<const std::int64_t> numbers,
               Vector<const std::int64_t> indptr, Vector<std::int32_t> items, Vector<float> values) {
    launch("take_rows", take_entries, blocks_for(items.size, kThreads), kThreads, 0, queue, x, numbers,
           indptr, items, values);
}

void take_rows_dense(const Queue& queue, const Csr& x, Vector<const std::int64_t> numbers,
                     Matrix<float> out) {
    launch("take_rows_dense", take_spans, blocks_for(out.rows * out.cols, kSpan), kThreads, 0, queue, x,
           numbers.data, out);
}

}  // namespace pyrec::cuda
