#include "cuda/sparse_product.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 128;  // about the entries of a row of weights

// A block a row of x. The rows of weights are added one after the other, each by all threads: its items
// differ, so no two threads meet, and the barrier between rows keeps the order of the sums.
__global__ void __launch_bounds__(kThreads)
    product_rows(Csr x, Csr weights, Vector<const float> offset, Matrix<float> out) {
    // Looked up by all threads at once: one after the other, each would be waited for.
    __shared__ std::int64_t begins[kThreads], ends[kThreads];
    __shared__ float values[kThreads];
    const std::int64_t row = blockIdx.x;
    float* const y = out.row(row);
    for (std::int64_t j = threadIdx.x; j < out.cols; j += kThreads) y[j] = offset.data ? offset[j] : 0.0f;
    const std::int64_t last = x.indptr[row + 1];
    for (std::int64_t first = x.indptr[row]; first < last; first += kThreads) {
        const int n = last - first < kThreads ? static_cast<int>(last - first) : kThreads;
        const int own = threadIdx.x;
        __syncthreads();  // those before were read
        if (own < n) {
            const std::int32_t item = x.indices[first + own];
            begins[own] = weights.indptr[item];
            ends[own] = weights.indptr[item + 1];
            values[own] = x.values[first + own];
        }
        for (int q = 0; q < n; ++q) {
            __syncthreads();
            for (std::int64_t e = begins[q] + own; e < ends[q]; e += kThreads)
                y[weights.indices[e]] += values[q] * weights.values[e];
        }
    }
}

}  // namespace

void sparse_product(const Queue& queue, const Csr& x, const Csr& weights, Vector<const float> offset,
                    Matrix<float> out) {
    launch("sparse_product", product_rows, dim3(static_cast<unsigned>(x.rows)), kThreads, 0, queue, x,
           weights, offset, out);
}

}  // namespace pyrec::cuda
