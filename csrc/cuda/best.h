#pragma once
#include <limits>

#include "core/keys.h"
#include "cuda/wide.h"

// Before loops of which little code is to be made, so that it does not crowd out that of others.
#if defined(PYREC_ON_CPU)
#define PYREC_NO_UNROLL
#else
#define PYREC_NO_UNROLL _Pragma("unroll 1")
#endif

namespace pyrec::cuda {

constexpr std::uint64_t kNoKey = ~std::uint64_t(0);
constexpr float kExcluded = -std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

// The k best of the keys (core/keys.h) that a block of kThreads is offered, for k <= kThreads / 2 * kSets.
// What may be among them lies in shared memory, in no order: nothing beyond the bar is. Only when there is
// no room left is the bar brought down to what has come since, and what is then beyond it dropped.
//
// How: of disjoint sets of keys that are k or more, the k-th of the sets' best keys is no better than the
// k-th of all. With twice as many sets as k, little more than k keys get over such a bar, and
// finding it compares each key with a few others only, so that sorting can be left to keys that outwit it.
//
// All threads of the block call its functions together.
template <int kThreads, int kSets> class Best {
  public:
    static constexpr int kRoom = kSets < 4 ? 1024 * kSets : 4096;
    static constexpr int kKeys = kRoom + kThreads + kThreads / kWarp + 1;  // memory in keys

    __device__ Best(std::uint64_t* memory, int k) : keys_(memory), k_(k) {
        if (threadIdx.x == 0) *count(keys_) = 0;
        __syncthreads();
    }

    // A lesser score does not get over the bar with an item that is `item` or comes after; no other one has
    // a difference from it with a minus sign. So it is finite, and -0 instead of 0.
    __device__ float least_score(std::int64_t item) const {
        const float score = score_of(bar_);
        const std::int32_t bits = ordered_bits(score);
        // A score that is equal to the bar's gets over it with items before the bar's only.
        const bool ties = static_cast<std::uint32_t>(bar_) >= static_cast<std::uint64_t>(item);
        if (score == -kExcluded || (ties && score == 0.0f)) return from_ordered_bits(bits - 1);
        return from_ordered_bits(ties || score == kLargest ? bits : bits + 1);
    }

    // Lowers the bar by the best keys of disjoint sets, kNoKey where a set is empty, that are offered later.
    __device__ __forceinline__ void lower_bar(const std::uint64_t (&best)[kSets]) {
        bar_ = lowered(keys_, k_, bar_, best);
    }

    // Offers key(0) to key(n - 1).
    template <class Key> __device__ __forceinline__ void offer(int n, Key key) {
        PYREC_NO_UNROLL for (int first = 0; first < n; first += kThreads) {
            if (taken_ > kRoom - kThreads) make_room();
            taken_ += n - first < kThreads ? n - first : kThreads;
            const int i = first + threadIdx.x;
            const std::uint64_t one = i < n ? key(i) : kNoKey;
            if (one <= bar_) keys_[atomicAdd(count(keys_), 1)] = one;
        }
    }

    // Sorts what there is, or the best k of it; returns how many.
    __device__ __forceinline__ int finish() {
        bar_ = shrunk(keys_, k_, bar_, 0);
        return *count(keys_);
    }
    __device__ std::uint64_t operator[](int i) const { return keys_[i]; }

  private:
    static constexpr int kGroups = kThreads / kWarp;

    // What lies in the memory behind the keys.
    static __device__ std::uint64_t* sets(std::uint64_t* keys) { return keys + kRoom; }
    static __device__ std::uint64_t* bars(std::uint64_t* keys) { return keys + kRoom + kThreads; }
    static __device__ int* count(std::uint64_t* keys) { return reinterpret_cast<int*>(bars(keys) + kGroups); }

    __device__ __forceinline__ void make_room() {
        __syncthreads();
        taken_ = *count(keys_);
        __syncthreads();  // nobody goes on before all know
        if (taken_ <= kRoom / 2) return;
        bar_ = shrunk(keys_, k_, bar_, kRoom / 2);
        taken_ = *count(keys_);
        __syncthreads();
    }

    // How many of the n keys are before one.
    static __device__ __forceinline__ int rank_of(std::uint64_t key, const std::uint64_t* keys, int n) {
        int rank = 0;
        for (int i = 0; i < n; ++i) rank += keys[i] < key;
        return rank;
    }

    // A warp finds the bar of its group of sets, the worst of these is that of all.
    static __device__ __forceinline__ std::uint64_t lowered(std::uint64_t* keys, int k, std::uint64_t bar,
                                                            const std::uint64_t (&best)[kSets]) {
        const int last = (k + kGroups * kSets - 1) / (kGroups * kSets) - 1;  // of a group's best
        const int group = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
        std::uint64_t worst = 0;
        PYREC_UNROLL for (int s = 0; s < kSets; ++s) {
            // Sets from all over the block: neighbours are more alike than others.
            sets(keys)[threadIdx.x % kGroups * kWarp + threadIdx.x / kGroups] = best[s];
            if (lane == 0) bars(keys)[group] = kNoKey;
            __syncthreads();
            const std::uint64_t key = sets(keys)[threadIdx.x];
            const int rank = rank_of(key, sets(keys) + group * kWarp, kWarp);
            if (rank == last && key != kNoKey) bars(keys)[group] = key;  // keys differ, so one thread's
            __syncthreads();
            PYREC_UNROLL for (int g = 0; g < kGroups; ++g) if (bars(keys)[g] > worst) worst = bars(keys)[g];
            if (s + 1 < kSets) __syncthreads();
        }
        return worst < bar ? worst : bar;
    }

    // Drops what does not get over a lower bar, which it returns; sorts where this leaves more than `most`.
    // Never inlined: it is large, and rare.
    static __device__ __attribute__((noinline)) std::uint64_t shrunk(std::uint64_t* keys, int k,
                                                                     std::uint64_t bar, int most) {
        __syncthreads();  // all that was offered has come
        const int n = *count(keys);
        std::uint64_t best[kSets];
        PYREC_UNROLL for (int s = 0; s < kSets; ++s) {
            best[s] = kNoKey;
            for (int i = s * kThreads + threadIdx.x; i < n; i += kSets * kThreads)
                if (keys[i] < best[s]) best[s] = keys[i];
        }
        bar = lowered(keys, k, bar, best);
        if (threadIdx.x == 0) *count(keys) = 0;
        PYREC_NO_UNROLL for (int first = 0; first < n; first += kThreads) {
            const int i = first + threadIdx.x;
            const std::uint64_t key = i < n ? keys[i] : kNoKey;
            __syncthreads();  // places up to here are free
            if (key <= bar) keys[atomicAdd(count(keys), 1)] = key;
        }
        __syncthreads();
        const int left = *count(keys);
        if (left <= most) return bar;
        if (left <= kThreads) count_sort(keys, left);
        else bitonic_sort(keys, left);
        if (threadIdx.x == 0 && left > k) *count(keys) = k;
        __syncthreads();
        return left >= k && keys[k - 1] < bar ? keys[k - 1] : bar;
    }

    // For up to kThreads keys, which differ: with fewer barriers than the other's rounds have.
    static __device__ void count_sort(std::uint64_t* keys, int n) {
        const int i = threadIdx.x;
        const std::uint64_t key = i < n ? keys[i] : kNoKey;
        const int rank = i < n ? rank_of(key, keys, n) : 0;
        __syncthreads();  // all have counted
        if (i < n) keys[rank] = key;
        __syncthreads();
    }

    // Batcher's (1968); a warp's 2 kWarp neighbours without waiting for others.
    static __device__ void bitonic_sort(std::uint64_t* keys, int n) {
        int size = 1;
        while (size < n) size *= 2;
        for (int i = n + threadIdx.x; i < size; i += kThreads) keys[i] = kNoKey;
        __syncthreads();
        PYREC_NO_UNROLL for (int run = 2; run <= size; run *= 2)
            PYREC_NO_UNROLL for (int apart = run / 2; apart > 0; apart /= 2) {
            PYREC_NO_UNROLL for (int i = threadIdx.x; i < size / 2; i += kThreads) {
                const int low = 2 * i - (i & (apart - 1));
                const std::uint64_t a = keys[low], b = keys[low + apart];
                if ((a > b) == ((low & run) == 0)) {
                    keys[low] = b;
                    keys[low + apart] = a;
                }
            }
            if (apart > kWarp || (apart == 1 && run >= 2 * kWarp)) __syncthreads();
            else __syncwarp();
        }
        __syncthreads();
    }

    std::uint64_t* keys_;
    int k_;
    int taken_ = 0;                                 // places, at most
    std::uint64_t bar_ = key_of(kExcluded, 0) - 1;  // beyond it is only what is excluded
};

}  // namespace pyrec::cuda
