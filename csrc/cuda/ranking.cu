#include "cuda/ranking.h"
#include "cuda/search.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

__device__ bool contains(const ItemLists& lists, std::int64_t row, std::int32_t item) {
    const std::int32_t* const items = lists.begin(row);
    const std::int64_t n = lists.end(row) - items, place = first_from(items, 0, n, item);
    return place < n && items[place] == item;
}

// The ranks of the relevant items of a list, ascending; a warp a list.
__global__ void __launch_bounds__(kThreads)
    find_hits(Matrix<const std::int32_t> items, ItemLists relevant, Matrix<std::int32_t> hits,
              Vector<std::int32_t> n_hits) {
    const std::int64_t row = blockIdx.x * std::int64_t{kWarps} + threadIdx.x / kWarp;
    if (row >= items.rows) return;  // the whole warp
    const int lane = threadIdx.x % kWarp;
    std::int32_t* out = hits.row(row);
    for (std::int64_t first = 0; first < hits.cols; first += kWarp) {
        const std::int64_t i = first + lane;
        const bool hit = i < hits.cols && contains(relevant, row, items.row(row)[i]);
        const unsigned bits = __ballot_sync(kAllLanes, hit);
        if (hit) out[__popc(bits & ((1u << lane) - 1))] = static_cast<std::int32_t>(i);
        out += __popc(bits);
    }
    if (lane == 0) n_hits[row] = static_cast<std::int32_t>(out - hits.row(row));
}

__global__ void __launch_bounds__(kThreads)
    evaluate(Measure measure, ItemLists relevant, Vector<const double> discounts,
             Vector<const double> discount_sums, Matrix<std::int32_t> hits, Vector<std::int32_t> n_hits,
             double* out) {
    const std::int64_t row = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
    if (row >= n_hits.size) return;
    const std::int64_t n_relevant = relevant.end(row) - relevant.begin(row);
    out[row] = n_relevant == 0 ? kUndefined
                               : value_of(measure, hits.row(row), n_hits[row], n_relevant, discounts.data,
                                          discount_sums.data);
}

}  // namespace

void ranking(const Queue& queue, Matrix<const std::int32_t> items, const ItemLists& relevant,
             const std::vector<Measure>& measures, Vector<const double> discounts,
             Vector<const double> discount_sums, Matrix<std::int32_t> hits, Vector<std::int32_t> n_hits,
             Matrix<double> out) {
    launch("ranking", find_hits, dim3(blocks_for(items.rows, kWarps)), kThreads, 0, queue, items, relevant,
           hits, n_hits);
    for (std::size_t m = 0; m < measures.size(); ++m)
        launch("ranking", evaluate, dim3(blocks_for(items.rows, kThreads)), kThreads, 0, queue, measures[m],
               relevant, discounts, discount_sums, hits, n_hits, out.row(static_cast<std::int64_t>(m)));
}

}  // namespace pyrec::cuda
