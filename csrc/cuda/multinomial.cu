#include <cmath>
#include <limits>
#include <type_traits>

#include "cuda/arithmetic.h"
#include "cuda/multinomial.h"
#include "cuda/wide.h"

namespace pyrec::cuda {
namespace {

// Packs of 16 bytes that a thread asks for before it uses the first: 64 bytes each of 1,024 threads are
// twice what a multiprocessor must have under way to hide the memory's latency.
constexpr int kAhead = 4;

// Of these, packs of N elements that are widened and summed together: for two of bfloat16 there are too few
// registers.
template <int N> constexpr int kTogether = N > 4 ? 1 : kAhead;

// Rows of at most so many columns get 128 threads, then 256, beyond 1,024: few rows are many columns.
constexpr std::int64_t kShort = 4096, kLong = 65536;

template <class T> constexpr T kNothing = -std::numeric_limits<T>::infinity();

// What a block knows of its row.
template <class S, class T> struct Row {
    const S* logits;
    int cols;
    const std::uint8_t* mask;   // null: all take part
    const T* dense;             // the targets of all items, or null:
    const std::int32_t* items;  // those of n items
    const T* counts;
    int n;

    __device__ bool has(int j) const { return !mask || !mask[j]; }
};

template <class S, class T>
__device__ Row<S, T> this_row(const S* logits, std::int64_t cols, const Targets<T>& x, const ItemMask& mask) {
    const std::int64_t b = blockIdx.x;
    Row<S, T> row{logits + b * cols, static_cast<int>(cols), nullptr, nullptr, nullptr, nullptr, 0};
    if (mask.data) row.mask = mask.data + b * mask.stride;
    if (!x.indptr) {
        row.dense = x.values + b * cols;
    } else {
        const std::int64_t first = x.indptr[b];
        row.items = x.indices + first;
        row.counts = x.values + first;
        row.n = static_cast<int>(x.indptr[b + 1] - first);
    }
    return row;
}

// Goes through x[begin..end): packs of N elements, read from addresses that are multiples of their size,
// and single elements before and after them. A thread's packs go to on_packs(first element of each or
// -1, elements), its single element, of which it has one at most, to on_single(j).
template <int kThreads, int N, bool kBackwards, class X, class OnPacks, class OnSingle>
__device__ __forceinline__ void for_packs(const X* x, int begin, int end, OnPacks on_packs,
                                          OnSingle on_single) {
    const auto past = static_cast<int>(reinterpret_cast<std::uintptr_t>(x + begin) / sizeof(X) % N);
    const int head = past == 0 ? 0 : (N - past < end - begin ? N - past : end - begin);
    const int packs = (end - begin - head) / N, first = begin + head;
    constexpr int tile = kAhead * kThreads;
    const int tiles = (packs + tile - 1) / tile;
    for (int t = 0; t < tiles; ++t) {
        const int place = (kBackwards ? tiles - 1 - t : t) * tile + static_cast<int>(threadIdx.x);
        int at[kAhead];
        X some[kAhead][N];
        PYREC_UNROLL for (int u = 0; u < kAhead; ++u) {
            at[u] = place + u * kThreads < packs ? first + (place + u * kThreads) * N : -1;
            if (at[u] >= 0) load_aligned(x + at[u], some[u]);
        }
        on_packs(at, some);
    }
    const int i = static_cast<int>(threadIdx.x), single = i < head ? begin + i : first + packs * N + i - head;
    if (single < end) on_single(single);
}

// Calls f(j, x[j]) for the elements of a row.
template <int kThreads, class X, class F> __device__ __forceinline__ void for_row(const X* x, int n, F f) {
    constexpr int N = kWide<X>;
    for_packs<kThreads, N, false>(
        x, 0, n,
        [&](const int (&at)[kAhead], const X(&some)[kAhead][N]) {
            PYREC_UNROLL for (int u = 0; u < kAhead; ++u)
                PYREC_UNROLL for (int i = 0; i < N; ++i) if (at[u] >= 0) f(at[u] + i, some[u][i]);
        },
        [&](int j) { f(j, x[j]); });
}

// sum_j exp(x_j - max) of the elements that a thread has seen.
template <class T> struct Partial {
    T max = kNothing<T>;
    double sum = 0;

    // A few are summed in T, all of them in double: a catalogue of millions loses no digits.
    template <int N> __device__ __forceinline__ void add(const T (&x)[N]) {
        T high = max;
        PYREC_UNROLL for (int i = 0; i < N; ++i) high = std::fmax(high, x[i]);  // not a NaN
        const T shift = high == kNothing<T> ? T{0} : high;                      // -inf - -inf is no number
        if (high > max) sum *= std::exp(max - shift);
        max = high;
        T part = 0;
        PYREC_UNROLL for (int i = 0; i < N; ++i) part += exp_of(x[i] - shift);
        sum += part;
    }
};

// Of all the row, for every thread.
template <int kThreads, class S, class T> __device__ double log_sum_exp(const Row<S, T>& row) {
    constexpr int N = kWide<S>;
    Partial<T> partial;
    for_packs<kThreads, N, false>(
        row.logits, 0, row.cols,
        [&](const int (&at)[kAhead], const S(&some)[kAhead][N]) {
            constexpr int each = kTogether<N>;
            PYREC_UNROLL for (int first = 0; first < kAhead; first += each) {
                T x[each * N];
                PYREC_UNROLL for (int u = 0; u < each; ++u) PYREC_UNROLL for (int i = 0; i < N; ++i)
                    x[u * N + i] = at[first + u] >= 0 ? widen(some[first + u][i]) : kNothing<T>;
                if (row.mask) PYREC_UNROLL for (int u = 0; u < each; ++u) if (at[first + u] >= 0) {
                        std::uint8_t out[N];
                        load(row.mask + at[first + u], out);
                        PYREC_UNROLL for (int i = 0; i < N; ++i) if (out[i]) x[u * N + i] = kNothing<T>;
                    }
                partial.add(x);
            }
        },
        [&](int j) {
            const T x[1] = {row.has(j) ? widen(row.logits[j]) : kNothing<T>};
            partial.add(x);
        });
    const T max = block_reduce<kThreads>(partial.max, Max{});
    const double own = partial.sum * std::exp(partial.max - (max == kNothing<T> ? T{0} : max));
    const double sum = block_reduce<kThreads>(own, Sum{});
    __shared__ double result;  // of one thread: most devices take long over doubles
    if (threadIdx.x == 0) result = sum > 0 || std::isnan(sum) ? max + std::log(sum) : kNothing<double>;
    __syncthreads();
    return result;
}

// A target of the row that takes part (else item is -1), and the logit there.
template <class T> struct Target {
    int item;
    T count, logit;
};

template <class S, class T> __device__ Target<T> target_of(const Row<S, T>& row, int q) {
    Target<T> target{-1, 0, 0};
    if (q < row.n && row.has(row.items[q]))
        target = {row.items[q], row.counts[q], widen(row.logits[row.items[q]])};
    return target;
}

// The sum of the targets that take part, for every thread.
template <int kThreads, class S, class T> __device__ double total_of(const Row<S, T>& row) {
    double total = 0;
    if (row.dense) {
        for_row<kThreads>(row.dense, row.cols, [&](int j, T count) {
            if (count != 0 && row.has(j)) total += count;
        });
    } else {
        for (int q = static_cast<int>(threadIdx.x); q < row.n; q += kThreads)
            if (row.has(row.items[q])) total += row.counts[q];
    }
    return block_reduce<kThreads>(total, Sum{});
}

struct LossAndLse {
    double loss, lse;
};

template <int kThreads, class S, class T> __device__ LossAndLse loss_of(const Row<S, T>& row) {
    // Asked for before all logits are, nobody waits for them after.
    const int own = static_cast<int>(threadIdx.x);
    const Target<T> first = target_of(row, own);
    const double lse = log_sum_exp<kThreads>(row);
    double loss = 0;
    if (row.dense) {
        for_row<kThreads>(row.dense, row.cols, [&](int j, T count) {
            if (count != 0 && row.has(j)) loss += count * (lse - widen(row.logits[j]));
        });
    } else {
        for (int q = own; q < row.n; q += kThreads) {
            const Target<T> target = q == own ? first : target_of(row, q);
            if (target.item >= 0) loss += target.count * (lse - target.logit);
        }
    }
    return {block_reduce<kThreads>(loss, Sum{}), lse};
}

// grad[j] = k * exp(logits[j] - lse) - scale * x[j], 0 where masked; x[j] only of dense targets.
template <class T> struct Softmax {
    T lse, k, scale;

    template <class S, int N> __device__ __forceinline__ void operator()(const Row<S, T>& row, int j,
                                                                         const S (&logits)[N],
                                                                         S (&grad)[N]) const {
        T value[N];
        PYREC_UNROLL for (int i = 0; i < N; ++i) value[i] = k * exp_of(widen(logits[i]) - lse);
        if (row.dense) {
            T counts[N];
            load(row.dense + j, counts);
            PYREC_UNROLL for (int i = 0; i < N; ++i) value[i] -= scale * counts[i];
        }
        if (row.mask) {
            std::uint8_t out[N];
            load(row.mask + j, out);
            PYREC_UNROLL for (int i = 0; i < N; ++i) if (out[i]) value[i] = 0;
        }
        PYREC_UNROLL for (int i = 0; i < N; ++i) round_to(grad[i], value[i]);
    }
};

// Backwards: what was read last is the likeliest to be in a cache.
template <int kThreads, int N, class S, class T>
__device__ void write_some(const Row<S, T>& row, const Softmax<T>& softmax, int begin, int end, S* grad) {
    for_packs<kThreads, N, true>(
        row.logits, begin, end,
        [&](const int (&at)[kAhead], const S(&some)[kAhead][N]) {
            PYREC_UNROLL for (int u = 0; u < kAhead; ++u) if (at[u] >= 0) {
                S values[N];
                softmax(row, at[u], some[u], values);
                store_global(values, grad + at[u]);
            }
        },
        [&](int j) {
            const S logit[1] = {row.logits[j]};
            S value[1];
            softmax(row, j, logit, value);
            grad[j] = value[0];
        });
}

// `grad` may be the row's logits themselves.
template <int kThreads, class S, class T>
__device__ void gradient_of(const Row<S, T>& row, T lse, T scale, S* grad) {
    const T k = static_cast<T>(scale * total_of<kThreads>(row));
    const Softmax<T> softmax{lse, k, scale};
    // Where logits and gradient lie differently between multiples of 16 bytes, packs fit only one of them.
    constexpr auto bytes = static_cast<std::uintptr_t>(16);
    const bool alike = reinterpret_cast<std::uintptr_t>(row.logits) % bytes ==
                       reinterpret_cast<std::uintptr_t>(grad) % bytes;
    // As many targets at a time as there are threads. Their logits are read before the columns up to the
    // last of them are overwritten; the next targets lie beyond.
    for (int q = 0, begin = 0; begin < row.cols; q += kThreads) {
        const int end = q + kThreads < row.n ? row.items[q + kThreads - 1] + 1 : row.cols;
        const Target<T> target = target_of(row, q + static_cast<int>(threadIdx.x));
        __syncthreads();
        if (alike) write_some<kThreads, kWide<S>>(row, softmax, begin, end, grad);
        else write_some<kThreads, 1>(row, softmax, begin, end, grad);
        __syncthreads();
        if (target.item >= 0)
            round_to(grad[target.item], k * exp_of(target.logit - lse) - scale * target.count);
        begin = end;
    }
}

template <int kThreads, class S, class T> __global__ void __launch_bounds__(kThreads, kResident / kThreads)
    forward_kernel(const S* logits, std::int64_t cols, Targets<T> x, ItemMask mask, T* loss, T* lse) {
    const LossAndLse result = loss_of<kThreads>(this_row(logits, cols, x, mask));
    if (threadIdx.x == 0) {
        loss[blockIdx.x] = static_cast<T>(result.loss);
        lse[blockIdx.x] = static_cast<T>(result.lse);
    }
}

template <int kThreads, class S, class T> __global__ void __launch_bounds__(kThreads, kResident / kThreads)
    backward_kernel(const S* logits, std::int64_t cols, Targets<T> x, ItemMask mask, const T* lse,
                    const T* scale, S* grad) {
    const std::int64_t b = blockIdx.x;
    gradient_of<kThreads>(this_row(logits, cols, x, mask), lse[b], scale[b], grad + b * cols);
}

template <int kThreads, class S, class T> __global__ void __launch_bounds__(kThreads, kResident / kThreads)
    in_place_kernel(S* logits, std::int64_t cols, Targets<T> x, ItemMask mask, T scale, T* loss) {
    const std::int64_t b = blockIdx.x;
    const auto row = this_row(static_cast<const S*>(logits), cols, x, mask);
    const LossAndLse result = loss_of<kThreads>(row);
    gradient_of<kThreads>(row, static_cast<T>(result.lse), scale, logits + b * cols);
    if (threadIdx.x == 0) loss[b] = static_cast<T>(result.loss);
}

// Calls f(number of threads) with a number that fits rows of so many columns.
template <class F> void with_threads(std::int64_t cols, F f) {
    if (cols <= kShort) f(std::integral_constant<int, 128>{});
    else if (cols <= kLong) f(std::integral_constant<int, 256>{});
    else f(std::integral_constant<int, 1024>{});
}

}  // namespace

template <class S, class T> void multinomial_forward(const Queue& queue, Matrix<const S> logits,
                                                     const Targets<T>& x, const ItemMask& mask,
                                                     Vector<T> loss, Vector<T> lse) {
    with_threads(logits.cols, [&](auto threads) {
        launch("multinomial_forward", forward_kernel<decltype(threads)::value, S, T>,
               dim3(blocks_for(logits.rows, 1)), threads, 0, queue, logits.data, logits.cols, x, mask,
               loss.data, lse.data);
    });
}

template <class S, class T>
void multinomial_backward(const Queue& queue, Matrix<const S> logits, const Targets<T>& x,
                          const ItemMask& mask, Vector<const T> lse, Vector<const T> scale, Matrix<S> grad) {
    with_threads(logits.cols, [&](auto threads) {
        launch("multinomial_backward", backward_kernel<decltype(threads)::value, S, T>,
               dim3(blocks_for(logits.rows, 1)), threads, 0, queue, logits.data, logits.cols, x, mask,
               lse.data, scale.data, grad.data);
    });
}

template <class S, class T> void multinomial_in_place(const Queue& queue, Matrix<S> logits,
                                                      const Targets<T>& x, const ItemMask& mask, T scale,
                                                      Vector<T> loss) {
    with_threads(logits.cols, [&](auto threads) {
        launch("multinomial_in_place", in_place_kernel<decltype(threads)::value, S, T>,
               dim3(blocks_for(logits.rows, 1)), threads, 0, queue, logits.data, logits.cols, x, mask, scale,
               loss.data);
    });
}

#define PYREC_INSTANTIATE(S, T)                                                                           \
    template void multinomial_forward(const Queue&, Matrix<const S>, const Targets<T>&, const ItemMask&,  \
                                      Vector<T>, Vector<T>);                                              \
    template void multinomial_backward(const Queue&, Matrix<const S>, const Targets<T>&, const ItemMask&, \
                                       Vector<const T>, Vector<const T>, Matrix<S>);                      \
    template void multinomial_in_place(const Queue&, Matrix<S>, const Targets<T>&, const ItemMask&, T,    \
                                       Vector<T>);
PYREC_INSTANTIATE(float, float)
PYREC_INSTANTIATE(double, double)
PYREC_INSTANTIATE(Bf16, float)
#undef PYREC_INSTANTIATE

}  // namespace pyrec::cuda
