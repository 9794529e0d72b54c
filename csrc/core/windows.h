#pragma once
#include "core/view.h"

namespace pyrec {

// The items of each user, in the user's order; borrowed.
struct Sequences {
    Vector<const std::int64_t> offsets;
    const std::int32_t* items;

    PYREC_INLINE std::int64_t size(std::int64_t user) const { return offsets[user + 1] - offsets[user]; }
};

// What follows each item of a user's sequence but the last: the distinct items among the next k, as a
// row of items ascending; k = 0: among all the rest.
//
// `first` says where the steps of users[u] begin among all of them (users.size + 1 entries). Two passes:
// the rows' sizes, then the rows, with values 1 or, if weighted, 1 / the row's size; and the inputs, the
// items that are followed.
void count_windows(const Sequences& s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                   std::int64_t k, Vector<std::int64_t> sizes, int n_threads);
void take_windows(const Sequences& s, Vector<const std::int64_t> users, Vector<const std::int64_t> first,
                  std::int64_t k, bool weighted, Vector<const std::int64_t> indptr,
                  Vector<std::int32_t> inputs, Vector<std::int32_t> indices, Vector<float> values,
                  int n_threads);

}  // namespace pyrec
