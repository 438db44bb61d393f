// SPDX-License-Identifier: Apache-2.0
// What every wire over the system's own resources promises besides: nothing is left behind, however
// its fabric ends, and it costs next to nothing while nobody uses it.
#pragma once

#include "tests/support/open_resources.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/loop/idle_cost.hpp"

namespace kvferry::testing {

/// The first round makes what UCX and CAF make at first use; the second leaves as much as it found.
template <class Round>
void check_leaves_nothing(Round round) {
    round();
    const auto before = open_resources();
    round();
    CHECK(open_resources() == before);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a stop with puts in flight leaves no descriptor and no mapping",
                          Kit, fabric_stop_leaves_nothing) {
    check_leaves_nothing([] {
        const scattered_put shape{16, 16, 16384};
        fabric_memory source(shape.source_bytes()), target(10 * shape.target_bytes());
        fabric_pair<Kit> pair;
        auto over = pair.open({pair.share(target)});
        for (int i = 0; i < 10; ++i)
            pair.put(over,
                     shape.job(source.address(), target.address() + i * shape.target_bytes()));
        REQUIRE_FALSE(pair.probe.ask(pair.writer, stop_io{}));
        CHECK(pair.probe.template waiting<transfer_done>() == 10);
        REQUIRE_FALSE(pair.probe.ask(pair.target, stop_io{}));
    });
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a killed one answers its puts and leaves no descriptor", Kit,
                          fabric_kill_leaves_nothing) {
    check_leaves_nothing([] {
        const scattered_put shape{16, 64, 16384};
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes());
        fabric_pair<Kit> pair;
        auto over = pair.open({pair.share(target)});
        pair.check_alive(over, target);
        auto hold = pair.kit.hold(1);
        pair.put(over, shape.job(source.address(), target.address()));
        pair.probe.settle(pair.writer);
        pair.kit.kill(0);
        CHECK(pair.probe.template next<transfer_done>().result == agent_result::in_doubt);
        pair.kit.await_death(0);
    });
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: two that are connected cost less than one percent of a core when idle", Kit,
    fabric_idle) {
    const scattered_put shape{2, 2, 4096};
    fabric_memory target(shape.target_bytes());
    fabric_pair<Kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    for (int number : {0, 1}) {
        const auto cost = measure_idle_cost(pair.kit.loop(number));
        CHECK_MESSAGE(cost.below_one_percent(), cost.processor.count(), " ns of ",
                      cost.wall.count());
    }
}

} // namespace kvferry::testing

#define KVFERRY_FABRIC_ENDS_CONFORMANCE(kit)                                                       \
    namespace kvferry::testing {                                                                   \
    TEST_CASE_TEMPLATE_INVOKE(fabric_stop_leaves_nothing, kit);                                    \
    TEST_CASE_TEMPLATE_INVOKE(fabric_kill_leaves_nothing, kit);                                    \
    TEST_CASE_TEMPLATE_INVOKE(fabric_idle, kit);                                                   \
    }
