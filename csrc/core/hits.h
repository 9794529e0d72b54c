#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/select.h"
#include "core/topk.h"

namespace pyrec {

// The hits of many users whose scores come by and by, in any order of the items: at least the best of
// what came. A score that comes is a hit if it beats the user's `least`, or ties with it and its item
// is below `limit`: no candidate that ever was among the k best fails that.
struct Hits {
    static constexpr std::int64_t kAtOnce = 64;  // scores that may come before room is made again

    std::int64_t k, room;                   // with more than `room` hits a user must be pruned
    std::unique_ptr<float[]> scores;        // capacity() a user
    std::unique_ptr<std::int32_t[]> items;  // likewise
    std::unique_ptr<float[]> least;
    std::unique_ptr<std::int32_t[]> limits, counts;

    Hits(std::int64_t users, std::int64_t k);

    // A place more than may come: appending writes every score and moves on only past a hit.
    static std::int64_t capacity(std::int64_t k) { return room_of(k) + kAtOnce + 1; }
    std::int64_t capacity() const { return capacity(k); }

    // Forgets all.
    void clear(std::int64_t users);

  private:
    static std::int64_t room_of(std::int64_t k) { return k + std::max<std::int64_t>(k / 2, 64); }
};

// Makes room among a user's hits, and writes the best in the end. With working space of its own: one
// for each thread.
class Pruner {
  public:
    // The lists of row `first + u` tell what user u must not get.
    Pruner(Hits& hits, const ItemLists& seen, const ItemLists& deny, std::int64_t first,
           std::int64_t n_items);

    // Keeps the k best hits of user u that are not excluded, and raises what others must beat.
    void prune(std::int64_t u);

    // Writes k items and scores, the best first, then -1 and -inf.
    void write(std::int64_t u, std::int64_t k, std::int32_t* items, float* best);

  private:
    Hits& hits_;
    const ItemLists &seen_, &deny_;
    std::int64_t first_;
    ItemSet excluded_;
    std::vector<std::int32_t> space_;
    std::vector<std::uint64_t> keys_, sorted_;
};

}  // namespace pyrec
