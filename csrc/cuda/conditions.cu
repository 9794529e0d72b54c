#include "cuda/conditions.h"
#include "cuda/search.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 128;
// Words of bits that a block has of a row's conditions: 32,768 conditions at a time.
constexpr int kWords = 1024;

// Which example a number is: of what row, and how many of the row's conditions come before its own;
// -1: it has none.
struct Place {
    std::int64_t row, before;
};

__device__ __forceinline__ Place place_of(const Examples& e, std::int64_t number) {
    const std::int64_t rows = e.x.rows, n_alone = e.n_alone();
    if (number < n_alone) return {row_of(e.alone.data, rows, number), -1};
    number -= n_alone;
    const std::int64_t row = row_of(e.paired.data, rows, number);
    return {row, number - e.paired[row]};
}

// The warp's number in the grid. A warp beyond the end leaves whole, so that no shuffle misses a lane.
__device__ __forceinline__ std::int64_t warp_number() {
    return (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
}

struct Or {
    template <class T> __device__ T operator()(T a, T b) const { return a | b; }
};

// The conditions that a row knows, up to 64 of them; a warp's work.
__device__ unsigned long long known_of(const Examples& e, const Csr& x, std::int64_t row) {
    unsigned long long word = 0;
    for (std::int64_t q = x.indptr[row] + threadIdx.x % kWarp; q < x.indptr[row + 1]; q += kWarp)
        word |= e.masks[x.indices[q]];
    return warp_reduce(word, Or{});
}

// A warp an example.
__global__ void find_by_masks(Examples e, Vector<const std::int64_t> numbers, Vector<std::int64_t> rows,
                              Vector<std::int32_t> conditions) {
    const std::int64_t b = warp_number();
    if (b >= numbers.size) return;
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    const Place place = place_of(e, numbers[b]);
    int found = -1;
    if (place.before >= 0) {
        unsigned long long known = known_of(e, e.x, place.row);
        if (!e.same_targets) known &= known_of(e, e.targets, place.row);
        for (int bit = lane; bit < 64; bit += kWarp)
            if ((known >> bit & 1) != 0 && __popcll(known & ((1ull << bit) - 1)) == place.before) found = bit;
        found = warp_reduce(found, Max{});
    }
    if (lane == 0) {
        rows[b] = place.row;
        conditions[b] = found;
    }
}

// The conditions of a row from `first` on as bits, which were 0.
__device__ void mark(const Examples& e, const Csr& x, std::int64_t row, std::int64_t first, unsigned* bits) {
    for (std::int64_t q = x.indptr[row] + threadIdx.x; q < x.indptr[row + 1]; q += kThreads) {
        const std::int32_t item = x.indices[q];
        for (std::int64_t p = e.items.indptr[item]; p < e.items.indptr[item + 1]; ++p) {
            const std::int64_t bit = e.items.indices[p] - first;
            if (bit >= 0 && bit < 32 * kWords) atomicOr(bits + bit / 32, 1u << bit % 32);
        }
    }
}

// A block an example, for any number of conditions.
__global__ void find_by_bits(Examples e, Vector<const std::int64_t> numbers, Vector<std::int64_t> rows,
                             Vector<std::int32_t> conditions) {
    constexpr int each = kWords / kThreads;
    __shared__ unsigned known[kWords], others[kWords];
    const std::int64_t b = blockIdx.x;
    const Place place = place_of(e, numbers[b]);
    std::int64_t before = place.before;  // among the conditions from `first` on
    for (std::int64_t first = 0; first < e.items.cols && before >= 0; first += 32 * kWords) {
        for (int w = static_cast<int>(threadIdx.x); w < kWords; w += kThreads) known[w] = others[w] = 0;
        __syncthreads();
        mark(e, e.x, place.row, first, known);
        if (!e.same_targets) mark(e, e.targets, place.row, first, others);
        __syncthreads();
        const int begin = static_cast<int>(threadIdx.x) * each;
        int own = 0;
        for (int w = begin; w < begin + each; ++w) {
            if (!e.same_targets) known[w] &= others[w];
            own += __popc(known[w]);
        }
        int total;
        std::int64_t left = before - block_sum_before<kThreads>(own, &total);
        if (left >= 0 && left < own)
            for (int w = begin; w < begin + each; ++w)
                for (unsigned bits = known[w]; bits != 0; bits &= bits - 1)
                    if (left-- == 0)
                        conditions[b] = static_cast<std::int32_t>(first) + 32 * w + __ffs(bits) - 1;
        before -= total;  // below 0: it was found
    }
    if (threadIdx.x != 0) return;
    rows[b] = place.row;
    if (place.before < 0) conditions[b] = -1;
}

// A thread an entry; the last one of a row is its condition.
__global__ void take_inputs(Examples e, Vector<const std::int64_t> rows,
                            Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                            Vector<std::int32_t> indices, Vector<float> values) {
    const std::int64_t q = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (q >= indices.size) return;
    const std::int64_t b = row_of(indptr.data, rows.size, q);
    const std::int32_t condition = conditions[b];
    if (condition >= 0 && q + 1 == indptr[b + 1]) {
        indices[q] = static_cast<std::int32_t>(e.x.cols) + condition;
        values[q] = 1.0f;
    } else {
        const std::int64_t from = e.x.indptr[rows[b]] + (q - indptr[b]);
        indices[q] = e.x.indices[from];
        values[q] = e.x.values[from];
    }
}

// A warp an example.
__global__ void count(Examples e, Vector<const std::int64_t> rows, Vector<const std::int32_t> conditions,
                      Vector<std::int64_t> sizes) {
    const std::int64_t b = warp_number();
    if (b >= rows.size) return;
    const std::int64_t first = e.targets.indptr[rows[b]], last = e.targets.indptr[rows[b] + 1];
    const std::int32_t condition = conditions[b];
    std::int64_t size = last - first;
    if (condition >= 0) {
        size = 0;
        for (std::int64_t q = first + threadIdx.x % kWarp; q < last; q += kWarp)
            size += has_condition(e, e.targets.indices[q], condition);
        size = warp_reduce(size, Sum{});
    }
    if (threadIdx.x % kWarp == 0) sizes[b] = size;
}

// A warp an example: of 32 entries those that have the condition close ranks.
__global__ void take_targets(Examples e, Vector<const std::int64_t> rows,
                             Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                             Vector<std::int32_t> indices, Vector<float> values) {
    const std::int64_t b = warp_number();
    if (b >= rows.size) return;
    const unsigned lane = threadIdx.x % kWarp;
    const std::int64_t last = e.targets.indptr[rows[b] + 1];
    const std::int32_t condition = conditions[b];
    std::int64_t to = indptr[b];
    for (std::int64_t begin = e.targets.indptr[rows[b]]; begin < last; begin += kWarp) {
        const std::int64_t q = begin + lane;
        const std::int32_t item = q < last ? e.targets.indices[q] : 0;
        const bool taken = q < last && (condition < 0 || has_condition(e, item, condition) != 0);
        const unsigned all = __ballot_sync(kAllLanes, taken);
        if (taken) {
            const std::int64_t place = to + __popc(all & ((1u << lane) - 1));
            indices[place] = item;
            values[place] = e.targets.values[q];
        }
        to += __popc(all);
    }
}

}  // namespace

void find_examples(const Queue& queue, const Examples& e, Vector<const std::int64_t> numbers,
                   Vector<std::int64_t> rows, Vector<std::int32_t> conditions) {
    if (e.masks.size != 0)
        launch("find_examples", find_by_masks, blocks_for(numbers.size, kThreads / kWarp), kThreads, 0, queue,
               e, numbers, rows, conditions);
    else
        launch("find_examples", find_by_bits, blocks_for(numbers.size, 1), kThreads, 0, queue, e, numbers,
               rows, conditions);
}

void conditioned_inputs(const Queue& queue, const Examples& e, Vector<const std::int64_t> rows,
                        Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                        Vector<std::int32_t> indices, Vector<float> values) {
    launch("conditioned_inputs", take_inputs, blocks_for(indices.size, kThreads), kThreads, 0, queue, e, rows,
           conditions, indptr, indices, values);
}

void count_targets(const Queue& queue, const Examples& e, Vector<const std::int64_t> rows,
                   Vector<const std::int32_t> conditions, Vector<std::int64_t> sizes) {
    launch("count_targets", count, blocks_for(rows.size, kThreads / kWarp), kThreads, 0, queue, e, rows,
           conditions, sizes);
}

void conditioned_targets(const Queue& queue, const Examples& e, Vector<const std::int64_t> rows,
                         Vector<const std::int32_t> conditions, Vector<const std::int64_t> indptr,
                         Vector<std::int32_t> indices, Vector<float> values) {
    launch("conditioned_targets", take_targets, blocks_for(rows.size, kThreads / kWarp), kThreads, 0, queue,
           e, rows, conditions, indptr, indices, values);
}

}  // namespace pyrec::cuda
