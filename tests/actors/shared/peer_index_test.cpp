// SPDX-License-Identifier: Apache-2.0
// Sessions by the peers that they need.
#include "actors/shared/peer_index.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace kvferry;

TEST_CASE("peer_index: names the sessions of a peer, and forgets peers without a session") {
    peer_index<rid> index;
    index.add({1}, {7});
    index.add({1}, {8});
    index.add({2}, {7});
    index.add({2}, {7}); // twice
    auto of = [&index](std::uint64_t peer) {
        auto found = index.of({peer});
        std::sort(found.begin(), found.end());
        return found;
    };
    CHECK(of(1) == std::vector<rid>{{7}, {8}});
    CHECK(of(2) == std::vector<rid>{{7}});
    CHECK(of(3).empty());
    index.remove({1}, {7});
    CHECK(of(1) == std::vector<rid>{{8}});
    index.remove({2}, {7});
    CHECK(of(2) == std::vector<rid>{{7}});
    index.remove({2}, {7});
    index.remove({2}, {7});
    index.remove({3}, {7});
    CHECK(index.peers() == 1);
    index.remove({1}, {8});
    CHECK(index.peers() == 0);
}
