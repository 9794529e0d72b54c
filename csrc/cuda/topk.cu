#include "cuda/best.h"
#include "cuda/search.h"
#include "cuda/topk.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kValues = 32;                // scores of a thread at a time
constexpr int kStep = kThreads * kValues;  // of a block
constexpr int kWindow = 4 * kStep;         // scores whose exclusion is known at a time, a bit each
constexpr int kLine = 1024;                // of a step's scores, so many can wait
constexpr std::int64_t kLeastPart = 2 * kStep;
constexpr std::int64_t kBusy = 512;  // blocks that keep a large GPU busy

using Values = float[kValues / 4][4];  // of a thread in a step

template <int kSets> using BestKeys = Best<kThreads, kSets>;

// A part of a row of scores. Places are counted from where four scores lie together: up to three before
// the row's first one.
struct Part {
    const float* scores;      // of place 0
    int before;               // places before the row's first
    std::int64_t begin, end;  // places

    __device__ Part(Matrix<const float> all, std::int64_t row, std::int64_t part, std::int64_t width) {
        const float* const data = all.row(row);
        before = static_cast<int>(reinterpret_cast<std::uintptr_t>(data) / sizeof(float) % 4);
        scores = data - before;
        begin = part * width;
        end = begin + width < before + all.cols ? begin + width : before + all.cols;
    }

    __device__ std::int64_t first_item(std::int64_t place) const { return place > 0 ? place - before : 0; }

    // The place, within a step, of each value of a thread: four side by side in one access, and neighbouring
    // threads too.
    static __device__ __forceinline__ unsigned place_of(unsigned value) {
        return (value / 4 * kThreads + threadIdx.x) * 4 + value % 4;
    }

    __device__ __forceinline__ void load(std::int64_t step, Values& values) const {
        const float* const from = scores + step;
        const int first = step == 0 ? before : 0;
        const int last = end - step < kStep ? static_cast<int>(end - step) : kStep;
        if (first == 0 && last == kStep) {
            PYREC_UNROLL for (int f = 0; f < kValues / 4; ++f) {
                load_aligned(from + place_of(4 * f), values[f]);
            }
            return;
        }
        PYREC_UNROLL for (int f = 0; f < kValues / 4; ++f) {
            const int place = static_cast<int>(place_of(4 * f));
            PYREC_UNROLL for (int c = 0; c < 4; ++c) values[f][c] = kExcluded;
            if (first <= place && place + 4 <= last) {
                load_aligned(from + place, values[f]);
            } else if (place < last) {
                PYREC_UNROLL for (int c = 0; c < 4; ++c) {
                    if (first <= place + c && place + c < last) values[f][c] = from[place + c];
                }
            }
        }
    }
};

// Which places of a window take no part.
struct Excluded {
    std::uint32_t* words;
    bool any;

    // The places from `window` to `end`.
    __device__ void set(const Candidates& candidates, std::int64_t row, const Part& part, std::int64_t window,
                        std::int64_t end) const {
        if (!any) return;
        PYREC_NO_UNROLL for (int i = threadIdx.x; i < kWindow / 32; i += kThreads) words[i] = 0;
        __syncthreads();
        mark(candidates.seen, row, part, window, end);
        mark(candidates.deny, row, part, window, end);
        __syncthreads();
    }

    __device__ bool has(unsigned place) const { return any && words[place / 32] >> place % 32 & 1; }

    // Takes what they are out of the values of a step.
    __device__ __forceinline__ void drop(int step, Values& values) const {
        if (!any) return;
        PYREC_UNROLL for (int f = 0; f < kValues / 4; ++f) {
            const unsigned place = step + Part::place_of(4 * f);
            const unsigned four = words[place / 32] >> place % 32 & 15;
            if (four == 0) continue;
            PYREC_UNROLL for (int c = 0; c < 4; ++c) {
                if (four >> c & 1) values[f][c] = kExcluded;
            }
        }
    }

  private:
    __device__ void mark(const ItemLists& lists, std::int64_t row, const Part& part, std::int64_t window,
                         std::int64_t end) const {
        if (!lists.present) return;
        const std::int32_t* const items = lists.begin(row);
        const std::int64_t n = lists.end(row) - items, last = end - part.before;
        const std::int64_t first = window > 0 ? first_from(items, 0, n, window - part.before) : 0;
        PYREC_NO_UNROLL for (std::int64_t i = first + threadIdx.x; i < n && items[i] < last; i += kThreads) {
            const auto place = static_cast<unsigned>(items[i] + part.before - window);
            atomicOr(words + place / 32, 1u << place % 32);
        }
    }
};

// Where in a step those scores are that may get over the bar: most threads have none, some have several, so
// the keys are shared out among all.
struct Line {
    std::uint16_t* places;
    unsigned* count;  // of all that ever came
    unsigned served = 0;
};

__device__ __forceinline__ unsigned sign_of(float x) {
    unsigned bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits >> 31;
}

// NaN never wins.
__device__ __forceinline__ std::uint64_t key_or_none(float score, std::int64_t item) {
    return score != score ? kNoKey : key_of(score, item);
}

// Offers the values of a step: value i is that of place(i), whose key is key(place), with an item that is
// `first` or comes after. The first step of a block brings the bar down before: of the rest little is then
// kept that must be dropped later.
template <int kSets, class Place, class Key>
__device__ __forceinline__ void consider(BestKeys<kSets>& best, Line& line, const Values& values, Place place,
                                         Key key, std::int64_t first, bool is_first) {
    if (is_first) {
        float top[kSets];
        int where[kSets];
        PYREC_UNROLL for (int s = 0; s < kSets; ++s) {
            top[s] = kExcluded;
            where[s] = -1;
        }
        PYREC_UNROLL for (int i = 0; i < kValues; ++i) {
            if (!(values[i / 4][i % 4] > top[i % kSets])) continue;
            top[i % kSets] = values[i / 4][i % 4];
            where[i % kSets] = i;
        }
        std::uint64_t keys[kSets];
        PYREC_UNROLL for (int s = 0; s < kSets; ++s) keys[s] =
            where[s] < 0 ? kNoKey : key(place(static_cast<unsigned>(where[s])));
        best.lower_bar(keys);
    }
    const float least = best.least_score(first);
    // Signs of differences, meant to take fewer operations than comparisons whose results become bits. NaN
    // may pass: it gets no key.
    unsigned bits = 0;
    PYREC_UNROLL for (int i = kValues - 1; i >= 0; --i) {
        bits = bits << 1 | sign_of(values[i / 4][i % 4] - least);
    }
    bits = ~bits;
    do {
        if (bits != 0) {
            unsigned at = atomicAdd(line.count, static_cast<unsigned>(__popc(bits))) - line.served;
            PYREC_NO_UNROLL for (; bits != 0 && at < kLine; ++at, bits &= bits - 1) {
                const int lowest = __ffs(static_cast<int>(bits)) - 1;
                line.places[at] = static_cast<std::uint16_t>(place(static_cast<unsigned>(lowest)));
            }
        }
        __syncthreads();
        const unsigned came = *line.count - line.served;
        line.served += came;
        best.offer(came < kLine ? came : kLine, [&](int i) { return key(line.places[i]); });
    } while (__syncthreads_or(bits != 0));
}

template <int kSets> __device__ void write(const BestKeys<kSets>& best, int found, std::int64_t row,
                                           Matrix<std::int32_t> items, Matrix<float> scores) {
    PYREC_NO_UNROLL for (int i = threadIdx.x; i < items.cols; i += kThreads) {
        items.row(row)[i] = i < found ? item_of(best[i]) : -1;
        scores.row(row)[i] = i < found ? score_of(best[i]) : kExcluded;
    }
}

template <int kSets> __device__ __forceinline__ void select_listed(BestKeys<kSets>& best, Line& line,
                                                                   const Part& part, const Excluded& excluded,
                                                                   const Candidates& candidates,
                                                                   std::int64_t row) {
    const std::int32_t* const listed = candidates.allow.begin(row);
    const std::int64_t all = candidates.allow.end(row) - listed;
    const float* const scores = part.scores + part.before;
    bool is_first = true;
    for (std::int64_t window = part.begin; window < part.end; window += kWindow) {
        const std::int64_t end = window + kWindow < part.end ? window + kWindow : part.end;
        const std::int64_t begin = window > 0 ? first_from(listed, 0, all, window - part.before) : 0;
        const std::int64_t n = first_from(listed, begin, all, end - part.before);
        if (begin == n) continue;
        excluded.set(candidates, row, part, window, end);
        for (std::int64_t step = begin; step < n; step += kStep) {
            const std::int32_t* const items = listed + step;
            const auto place = [](unsigned i) { return i * kThreads + threadIdx.x; };
            const auto key = [&](unsigned at) {
                const std::int32_t item = items[at];
                return excluded.has(item + part.before - window) ? kNoKey : key_or_none(scores[item], item);
            };
            Values values;
            PYREC_UNROLL for (int i = 0; i < kValues; ++i) {
                const unsigned at = place(i);
                const bool there = at < static_cast<std::uint64_t>(n - step) &&
                                   !excluded.has(items[at] + part.before - window);
                values[i / 4][i % 4] = there ? scores[items[at]] : kExcluded;
            }
            consider(best, line, values, place, key, items[0], is_first);
            is_first = false;
        }
    }
}

template <int kSets> __device__ __forceinline__ void select_all(BestKeys<kSets>& best, Line& line,
                                                                const Part& part, const Excluded& excluded,
                                                                const Candidates& candidates,
                                                                std::int64_t row) {
    for (std::int64_t step = part.begin; step < part.end; step += kStep) {
        Values values;
        part.load(step, values);
        const int in_window = static_cast<int>((step - part.begin) % kWindow);
        if (in_window == 0)
            excluded.set(candidates, row, part, step, step + kWindow < part.end ? step + kWindow : part.end);
        const bool is_first = step == part.begin;
        if (is_first) excluded.drop(in_window, values);
        const float* const scores = part.scores + step;
        const std::int64_t zero = step - part.before;
        const auto place = [](unsigned i) { return Part::place_of(i); };
        const auto key = [&](unsigned at) {
            return excluded.has(in_window + at) ? kNoKey : key_or_none(scores[at], zero + at);
        };
        consider(best, line, values, place, key, part.first_item(step), is_first);
    }
}

// A block a part of a row; where rows have several, their keys go to `partial`. With kListed only the allowed
// items are looked up: few are the rule.
template <int kSets, bool kListed> __global__ void __launch_bounds__(kThreads, kResident / kThreads)
    select_rows(Matrix<const float> scores, Candidates candidates, std::int64_t width,
                Matrix<std::int32_t> items, Matrix<float> best_scores, Matrix<std::uint64_t> partial) {
    PYREC_DYNAMIC_SHARED(std::uint64_t, memory);
    std::uint32_t* const words = reinterpret_cast<std::uint32_t*>(memory + BestKeys<kSets>::kKeys);
    const Excluded excluded{words, candidates.seen.present || candidates.deny.present};
    Line line{reinterpret_cast<std::uint16_t*>(words + kWindow / 32 + 1), words + kWindow / 32};
    if (threadIdx.x == 0) *line.count = 0;
    BestKeys<kSets> best(memory, static_cast<int>(items.cols));
    const std::int64_t row = blockIdx.x;
    const Part part(scores, row, blockIdx.y, width);
    if (kListed) select_listed(best, line, part, excluded, candidates, row);
    else select_all(best, line, part, excluded, candidates, row);
    const int found = best.finish();
    if (gridDim.y == 1) {
        write(best, found, row, items, best_scores);
    } else {
        std::uint64_t* const out = partial.row(row * gridDim.y + blockIdx.y);
        PYREC_NO_UNROLL for (int i = threadIdx.x; i < partial.cols; i += kThreads) out[i] =
            i < found ? best[i] : kNoKey;
    }
}

// The best of each row from those of its parts, n keys together.
template <int kSets> __global__ void __launch_bounds__(kThreads)
    join_parts(const std::uint64_t* partial, int n, Matrix<std::int32_t> items, Matrix<float> best_scores) {
    PYREC_DYNAMIC_SHARED(std::uint64_t, memory);
    BestKeys<kSets> best(memory, static_cast<int>(items.cols));
    const std::uint64_t* const keys = partial + std::int64_t{blockIdx.x} * n;
    best.offer(n, [=](int i) { return keys[i]; });
    const int found = best.finish();
    write(best, found, blockIdx.x, items, best_scores);
}

template <int kSets> void topk_of(const Queue& queue, Matrix<const float> scores,
                                  const Candidates& candidates, Matrix<std::int32_t> items,
                                  Matrix<float> best, Matrix<std::uint64_t> partial) {
    constexpr std::size_t keys = BestKeys<kSets>::kKeys * sizeof(std::uint64_t);
    constexpr std::size_t shared = keys + kWindow / 8 + sizeof(unsigned) + kLine * sizeof(std::uint16_t);
    static_assert(shared <= 48 << 10);
    const std::int64_t parts = partial.data ? partial.rows / scores.rows : 1;
    const std::int64_t steps = (scores.cols + 3 + kStep - 1) / kStep;
    const std::int64_t width = (steps + parts - 1) / parts * kStep;
    const dim3 grid(static_cast<unsigned>(scores.rows), static_cast<unsigned>(parts));
    launch("topk", candidates.allow.present ? select_rows<kSets, true> : select_rows<kSets, false>, grid,
           kThreads, shared, queue, scores, candidates, width, items, best, partial);
    if (parts > 1)
        launch("topk", join_parts<kSets>, dim3(grid.x), kThreads, keys, queue, partial.data,
               parts * items.cols, items, best);
}

}  // namespace

std::int64_t topk_parts(std::int64_t rows, std::int64_t cols) {
    const std::int64_t wanted = kBusy / (rows > 0 ? rows : 1), most = (cols + 3) / kLeastPart;
    const std::int64_t parts = wanted < most ? wanted : most;
    return parts > 1 ? parts : 1;
}

void topk(const Queue& queue, Matrix<const float> scores, const Candidates& candidates,
          Matrix<std::int32_t> items, Matrix<float> best, Matrix<std::uint64_t> partial) {
    const std::int64_t k = items.cols;
    if (k == 0 || scores.rows == 0) return;
    if (k <= kThreads / 2) topk_of<1>(queue, scores, candidates, items, best, partial);
    else if (k <= kThreads) topk_of<2>(queue, scores, candidates, items, best, partial);
    else topk_of<8>(queue, scores, candidates, items, best, partial);
}

}  // namespace pyrec::cuda
