// SPDX-License-Identifier: Apache-2.0
// `kvferry why`: what ranks have said of a request becomes who must act, with instance and rank.
#include "tests/support/contains.hpp"
#include "tests/tools/trace/deployment_views.hpp"
#include "tools/trace/deployment/deployment_why.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

/// decode/0 waits for prefill/1.
std::vector<instance_view> deployment(rank_view awaited) {
    auto receiver = said("decode/0");
    receiver.sessions = {
        waiting("generation", "INIT", 7, {"reports of context rank 1", "tx_session", "prefill/1"})};
    receiver.sessions[0].age_ns = 12'000'000'000;
    receiver.sessions[0].left_ns = 48'000'000'000;
    return {instance("prefill", {telling(said("prefill/0")), std::move(awaited)}),
            instance("decode", {telling(receiver)})};
}

} // namespace

TEST_CASE("why, over a deployment: a rank that is silent must act, and its reason is told") {
    const auto waits = waits_of(deployment(silent("prefill/1", "no answer within 2000 ms")), {7});
    REQUIRE(waits.size() == 1);
    CHECK(waits[0].kind == "silence");
    CHECK(waits[0].who == "prefill/1");
    CHECK(waits[0].text
          == "decode/0 rx_session, INIT, waits for reports of context rank 1; prefill/1 does not "
             "answer (no answer within 2000 ms), open for 12.0 s, its deadline is in 48.0 s: "
             "prefill/1 must act");
    CHECK(waits[0].now_ns - waits[0].since_ns == 12'000'000'000);
}

TEST_CASE("why, over a deployment: a chain of waits leads to the host that must act") {
    auto writer = said("prefill/1");
    writer.sessions = {waiting("context", "READY", 7, {"the host's last send(slice)", "host", ""})};
    const auto waits = waits_of(deployment(telling(writer)), {7});
    REQUIRE(waits.size() == 2);
    CHECK(waits[0].who == "prefill/1 host");
    CHECK(contains(waits[1].text, "decode/0 rx_session"));
}

TEST_CASE("why, over a deployment: a rank that answers and has no such session is named with its "
          "host") {
    const auto waits = waits_of(deployment(telling(said("prefill/1"))), {7});
    REQUIRE(waits.size() == 1);
    CHECK(waits[0].who == "prefill/1 host");
    CHECK(contains(waits[0].text, "prefill/1 has no session of it"));
}

TEST_CASE("why, over a deployment: a rank whose loop hangs is told as such") {
    auto hangs = said("prefill/1");
    hangs.problem = "the rank's loop has not answered for 500 ms";
    const auto waits = waits_of(deployment(telling(hangs)), {7});
    REQUIRE_FALSE(waits.empty());
    CHECK(waits[0].kind == "silence");
    CHECK(waits[0].who == "prefill/1 transfer_worker");
    CHECK(contains(waits[0].text, "has not answered for 500 ms"));
}

TEST_CASE("why, over a deployment: who has been asked is counted") {
    auto all = deployment(silent("prefill/1", "no answer"));
    all[1].ranks_unknown = 3;
    CHECK(asked_of(all).told == 2);
    CHECK(asked_of(all).all == 6);
    CHECK(waits_of(all, {8}).empty()); // nobody has said anything of that one
}
