// SPDX-License-Identifier: Apache-2.0
// How often a rank says that a peer's bytes take a worse route.
#include "actors/context/downgrade_log.hpp"
#include "tests/support/planner_ranks.hpp"

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE(
    "downgrade_log: each reason is a warning once per peer process, and again after its end") {
    const auto self = make_instance("ctx", {}, {.layers = 1, .kv_heads = 1, .head_dim = 4}).front();
    auto peer = self;
    downgrade_log log;
    CHECK(log.note(self, peer, "direct: not sealed"));
    CHECK_FALSE(log.note(self, peer, "direct: not sealed"));
    CHECK(log.note(self, peer, "direct: no memory"));
    peer.incarnation = {7};
    CHECK(log.note(self, peer, "direct: not sealed"));
    log.forget({7});
    CHECK(log.note(self, peer, "direct: not sealed"));
    CHECK_FALSE(log.note(self, self, "direct: not sealed"));
}
