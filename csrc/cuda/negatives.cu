#include "core/negatives.h"
#include "cuda/negatives.h"
#include "cuda/search.h"

namespace pyrec::cuda {
namespace {

using Word = unsigned long long;

constexpr int kThreads = 256;
constexpr int kBits = kNegativeBits;
constexpr std::int64_t kSharedWords = 5632;  // 44 KiB
constexpr std::int64_t kListed = 512;        // items; a longer list lies where the row's answer will

// The bits of a row: an item each, and the items that are observed.
struct Row {
    Word* words;
    const std::int32_t* observed;
    std::int64_t n_observed, n_items;

    __device__ std::int64_t n_words() const { return (n_items + 63) / 64; }

    __device__ bool bit(std::int64_t item) const { return (words[item / 64] >> item % 64 & 1) != 0; }

    __device__ void set(std::int64_t item, bool value) const {
        const Word one = Word{1} << item % 64;
        if (value) atomicOr(words + item / 64, one);
        else atomicAnd(words + item / 64, ~one);
    }

    // The block's work, as all that follows.
    __device__ void set_observed(bool value) const {
        for (std::int64_t q = threadIdx.x; q < n_observed; q += kThreads)
            if (observed[q] >= 0 && observed[q] < n_items) set(observed[q], value);
    }

    __device__ Word items_of(std::int64_t w) const {
        return w == n_items / 64 ? (Word{1} << n_items % 64) - 1 : ~Word{0};
    }
};

// A word of first draws: what the core does with all words digit by digit.
__device__ Word drawn_word(std::uint64_t stream, int chance, std::int64_t w) {
    std::uint64_t word = 0;
    for (int digit = 0; digit < kBits; ++digit) {
        const std::uint64_t one = (chance >> digit & 1) != 0 ? ~std::uint64_t{0} : 0;
        if (chance >> digit << digit == chance && one == 0) continue;  // still nothing but zeros
        word = with_digit(word, negative_bits(stream, static_cast<std::uint64_t>(w * kBits + digit)), one);
    }
    return word;
}

// Draws independently, and returns how many items it took.
__device__ std::int64_t draw_first(const Row& row, std::uint64_t stream, int chance) {
    const std::int64_t n_words = row.n_words();
    for (std::int64_t w = threadIdx.x; w < n_words; w += kThreads)
        row.words[w] = row.items_of(w) & (chance >> kBits != 0 ? ~Word{0} : drawn_word(stream, chance, w));
    __syncthreads();
    row.set_observed(false);
    __syncthreads();
    std::int64_t own = 0;
    for (std::int64_t w = threadIdx.x; w < n_words; w += kThreads) own += __popcll(row.words[w]);
    return block_reduce<kThreads>(own, Sum{});
}

// Turns n random bits whose value is `from`. Guesses do not depend on each other: a warp looks at 32 of
// them, and turns those that the core would turn one after the other.
__device__ void turn_guessed(const Row& row, std::int64_t n, bool from, std::uint64_t stream) {
    if (threadIdx.x >= kWarp) return;
    const unsigned lane = threadIdx.x;
    std::uint64_t next = static_cast<std::uint64_t>(row.n_words()) * kBits;
    for (std::int64_t left = n; left > 0; next += kWarp) {
        const auto item = static_cast<std::uint32_t>(
            below(negative_bits(stream, next + lane), static_cast<std::uint64_t>(row.n_items)));
        bool right = row.bit(item) == from;
        // What an earlier guess turns is not there any more.
        for (unsigned by = 1; by < kWarp; ++by) {
            const std::uint32_t earlier = __shfl_up_sync(kAllLanes, item, by);
            if (lane >= by && earlier == item) right = false;
        }
        const unsigned all = __ballot_sync(kAllLanes, right);
        __syncwarp();  // all have looked
        if (right && __popc(all & ((1u << lane) - 1)) < left) row.set(item, !from);
        left -= __popc(all);
        __syncwarp();
    }
}

// The same where few bits have that value: they are listed, in memory for `pool` items.
__device__ void turn_listed(const Row& row, std::int64_t n, std::int64_t pool, bool from,
                            std::uint64_t stream, std::int32_t* list) {
    const std::int64_t n_words = row.n_words(), each = (n_words + kThreads - 1) / kThreads;
    const std::int64_t begin = threadIdx.x * each, end = begin + each < n_words ? begin + each : n_words;
    int own = 0, total;
    for (std::int64_t w = begin; w < end; ++w)
        own += __popcll(row.items_of(w) & (from ? row.words[w] : ~row.words[w]));
    std::int64_t place = block_sum_before<kThreads>(own, &total);
    for (std::int64_t w = begin; w < end; ++w)
        for (Word bits = row.items_of(w) & (from ? row.words[w] : ~row.words[w]); bits != 0; bits &= bits - 1)
            list[place++] = static_cast<std::int32_t>(64 * w) + __ffsll(static_cast<long long>(bits)) - 1;
    __syncthreads();
    if (threadIdx.x != 0) return;
    const std::uint64_t next = static_cast<std::uint64_t>(n_words) * kBits;
    for (std::int64_t i = 0; i < n; ++i) {
        const std::uint64_t random = negative_bits(stream, next + static_cast<std::uint64_t>(i));
        const auto other = i + static_cast<std::int64_t>(below(random, static_cast<std::uint64_t>(pool - i)));
        const std::int32_t item = list[other];
        list[other] = list[i];
        row.set(item, !from);
    }
}

// Four bits as bytes.
__device__ __forceinline__ std::uint64_t bytes_of(std::uint64_t bits) {
    return (bits & 15) * 0x00204081u & 0x01010101u;
}

// A byte a bit, eight at a time where addresses allow it.
__device__ void write_bytes(const Row& row, bool* out) {
    const std::int64_t n = row.n_items;
    std::int64_t head = (8 - reinterpret_cast<std::uintptr_t>(out) % 8) % 8;
    if (head > n) head = n;
    for (std::int64_t j = threadIdx.x; j < head; j += kThreads) out[j] = row.bit(j);
    const std::int64_t end = head + (n - head) / 8 * 8;
    for (std::int64_t j = head + 8 * std::int64_t{threadIdx.x}; j < end; j += 8 * kThreads) {
        Word bits = row.words[j / 64] >> j % 64;
        if (j % 64 > 56) bits |= row.words[j / 64 + 1] << (64 - j % 64);
        *reinterpret_cast<std::uint64_t*>(out + j) = bytes_of(bits) | bytes_of(bits >> 4) << 32;
    }
    for (std::int64_t j = end + threadIdx.x; j < n; j += kThreads) out[j] = row.bit(j);
}

// A block a row.
__global__ void draw_rows(Csr x, double share, std::uint64_t seed, std::uint64_t step, bool with_observed,
                          Matrix<bool> out, Vector<std::uint64_t> workspace) {
    PYREC_DYNAMIC_SHARED(Word, shared);
    __shared__ std::int32_t short_list[kListed];
    const std::int64_t b = blockIdx.x;
    Row row{shared, x.indices + x.indptr[b], x.indptr[b + 1] - x.indptr[b], x.cols};
    if (workspace.size != 0) row.words = reinterpret_cast<Word*>(workspace.data) + b * row.n_words();
    const std::uint64_t stream = draw(seed, step, static_cast<std::uint64_t>(b));
    const std::int64_t n_free = x.cols - row.n_observed;
    const NegativeCounts counts = negative_counts(share, n_free);
    const std::int64_t got = draw_first(row, stream, counts.chance);
    const bool from = got > counts.wanted;
    const std::int64_t n = from ? got - counts.wanted : counts.wanted - got, pool = from ? got : n_free - got;
    if (n > 0) {
        // Only what may be turned has the value `from`.
        row.set_observed(!from);
        __syncthreads();
        if (pool * kNegativeSparse < x.cols) {
            const auto at = reinterpret_cast<std::uintptr_t>(out.row(b));
            auto* const in_place = reinterpret_cast<std::int32_t*>((at + 3) / 4 * 4);
            turn_listed(row, n, pool, from, stream, pool <= kListed ? short_list : in_place);
        } else {
            turn_guessed(row, n, from, stream);
        }
        __syncthreads();
    }
    row.set_observed(with_observed);
    __syncthreads();
    write_bytes(row, out.row(b));
}

}  // namespace

std::int64_t negatives_workspace(std::int64_t n_rows, std::int64_t n_items) {
    const std::int64_t words = (n_items + 63) / 64;
    return words <= kSharedWords ? 0 : n_rows * words;
}

void negatives(const Queue& queue, const Csr& x, double share, std::uint64_t seed, std::uint64_t step,
               bool with_observed, Matrix<bool> out, Vector<std::uint64_t> workspace) {
    const std::size_t shared =
        workspace.size != 0 ? 0 : static_cast<std::size_t>((x.cols + 63) / 64) * sizeof(Word);
    launch("negatives", draw_rows, blocks_for(x.cols == 0 ? 0 : x.rows, 1), kThreads, shared, queue, x, share,
           seed, step, with_observed, out, workspace);
}

}  // namespace pyrec::cuda
