#include "cuda/search.h"
#include "cuda/windows.h"

namespace pyrec::cuda {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kShort = kWarp;  // a window that lanes compare item by item

bool is_short(std::int64_t k) { return k > 0 && k <= kShort; }

// A step of a user: the items that follow, from the place after it on.
struct Step {
    std::int64_t user;  // among those of the call
    std::int64_t place;
    const std::int32_t* items;
    std::int64_t size;  // of the sequence
};

__device__ Step step_of(const Sequences& s, Vector<const std::int64_t> users,
                        Vector<const std::int64_t> first, std::int64_t number) {
    const std::int64_t u = row_of(first.data, users.size, number);
    return {u, number - first[u], s.items + s.offsets[users[u]], s.size(users[u])};
}

// Where the rows go; without sizes, or without values, that pass is not asked for.
struct Rows {
    std::int64_t* sizes;
    const std::int64_t* indptr;
    std::int32_t *inputs, *indices;
    float* values;
    bool weighted;

    __device__ float value(std::int64_t size) const {
        return weighted ? 1.0f / static_cast<float>(size) : 1.0f;
    }
};

// So many lanes a step as its window is long, or the power of two above. A lane has an item: it counts
// where no lane before has it, and its place in the row is the number of smaller items that count.
__global__ void take_short(Sequences s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                           std::int64_t n_steps, int k, int lanes, Rows rows) {
    const std::int64_t number = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / lanes;
    const int lane = static_cast<int>(threadIdx.x % kWarp), own = lane % lanes, begin = lane - own;
    std::int32_t input = -1, item = -1;
    if (number < n_steps) {
        const Step step = step_of(s, users, first, number);
        const std::int64_t place = step.place + 1 + own;
        input = step.items[step.place];
        if (own < k && place < step.size) item = step.items[place];
    }
    bool counts = item >= 0;
    for (int other = 0; other < lanes; ++other)
        if (__shfl_sync(kAllLanes, item, begin + other) == item && other < own) counts = false;
    const unsigned all = __ballot_sync(kAllLanes, counts) >> begin;
    std::int64_t size = 0, smaller = 0;
    for (int other = 0; other < lanes; ++other) {
        const std::int32_t its = __shfl_sync(kAllLanes, item, begin + other);
        if ((all >> other & 1) == 0) continue;
        ++size;
        smaller += its < item;
    }
    if (number >= n_steps) return;
    if (rows.sizes != nullptr) {
        if (own == 0) rows.sizes[number] = size;
        return;
    }
    if (own == 0) rows.inputs[number] = input;
    if (!counts) return;
    rows.indices[rows.indptr[number] + smaller] = item;
    rows.values[rows.indptr[number] + smaller] = rows.value(size);
}

// A place of a sequence, and the last place before it that has the same item, or -1.
struct Sorted {
    std::int32_t place, before;
};

// The places of a user's sequence by item, then by place; a block's work. All are compared with all, as
// many times as windows of all the rest have entries.
__global__ void sort_places(Sequences s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                            Sorted* sorted) {
    const std::int64_t u = blockIdx.x, size = s.size(users[u]);
    const std::int32_t* items = s.items + s.offsets[users[u]];
    sorted += first[u] + u;  // a user has a step less than items
    for (std::int64_t j = threadIdx.x; j < size; j += kThreads) {
        const std::int32_t item = items[j];
        std::int64_t rank = 0, before = -1;
        for (std::int64_t i = 0; i < size; ++i) {
            const std::int32_t other = items[i];
            if (other == item && i < j) before = i;
            rank += other < item || (other == item && i < j);
        }
        sorted[rank] = {static_cast<std::int32_t>(j), static_cast<std::int32_t>(before)};
    }
}

// A warp a step: of the user's sorted places those that its window has first.
__global__ void take_long(Sequences s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                          std::int64_t n_steps, std::int64_t k, const Sorted* sorted, Rows rows) {
    const std::int64_t number = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
    if (number >= n_steps) return;  // with its whole warp
    const unsigned lane = threadIdx.x % kWarp;
    const Step step = step_of(s, users, first, number);
    sorted += first[step.user] + step.user;
    const bool counting = rows.sizes != nullptr;
    const std::int64_t from = counting ? 0 : rows.indptr[number];
    const float value = counting ? 0.0f : rows.value(rows.indptr[number + 1] - from);
    std::int64_t to = from;
    for (std::int64_t begin = 0; begin < step.size; begin += kWarp) {
        const Sorted its = begin + lane < step.size ? sorted[begin + lane] : Sorted{-1, -1};
        const std::int64_t ahead = its.place - step.place;
        const bool taken = ahead > 0 && (k == 0 || ahead <= k) && its.before <= step.place;
        const unsigned all = __ballot_sync(kAllLanes, taken);
        if (taken && !counting) {
            const std::int64_t q = to + __popc(all & ((1u << lane) - 1));
            rows.indices[q] = step.items[its.place];
            rows.values[q] = value;
        }
        to += __popc(all);
    }
    if (lane != 0) return;
    if (counting) rows.sizes[number] = to;
    else rows.inputs[number] = step.items[step.place];
}

void take(const char* name, const Queue& queue, const Sequences& s, Vector<const std::int64_t> users,
          Vector<const std::int64_t> first, std::int64_t n_steps, std::int64_t k, const Sorted* sorted,
          const Rows& rows) {
    if (is_short(k)) {
        int lanes = 1;
        while (lanes < k) lanes *= 2;
        launch(name, take_short, blocks_for(n_steps, kThreads / lanes), kThreads, 0, queue, s, users, first,
               n_steps, k, lanes, rows);
    } else {
        launch(name, take_long, blocks_for(n_steps, kThreads / kWarp), kThreads, 0, queue, s, users, first,
               n_steps, k, sorted, rows);
    }
}

}  // namespace

std::int64_t windows_workspace(std::int64_t n_users, std::int64_t n_steps, std::int64_t k) {
    return is_short(k) ? 0 : 2 * (n_users + n_steps);
}

void count_windows(const Queue& queue, const Sequences& s, Vector<const std::int64_t> users,
                   Vector<const std::int64_t> first, std::int64_t k, Vector<std::int64_t> sizes,
                   Vector<std::int32_t> workspace) {
    auto* const sorted = reinterpret_cast<Sorted*>(workspace.data);
    if (!is_short(k))
        launch("sort_places", sort_places, blocks_for(users.size, 1), kThreads, 0, queue, s, users, first,
               sorted);
    take("count_windows", queue, s, users, first, sizes.size, k, sorted,
         {sizes.data, nullptr, nullptr, nullptr, nullptr, false});
}

void take_windows(const Queue& queue, const Sequences& s, Vector<const std::int64_t> users,
                  Vector<const std::int64_t> first, std::int64_t k, bool weighted,
                  Vector<const std::int64_t> indptr, Vector<std::int32_t> inputs,
                  Vector<std::int32_t> indices, Vector<float> values, Vector<std::int32_t> workspace) {
    take("take_windows", queue, s, users, first, inputs.size, k,
         reinterpret_cast<const Sorted*>(workspace.data),
         {nullptr, indptr.data, inputs.data, indices.data, values.data, weighted});
}

}  // namespace pyrec::cuda
