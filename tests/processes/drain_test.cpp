// SPDX-License-Identifier: Apache-2.0
// How a rank process leaves while others go on: SIGTERM, and stops beside a frozen peer.
#include "tests/processes/end_to_end.hpp"

#include <doctest/doctest.h>

#include <csignal>

namespace kvferry::testing {

namespace {

/// Returns when a receiver has asked for the session.
void await_receiver(rank_process& context, std::uint64_t rid) {
    while (context.ask({{"do", "status"}, {"rid", rid}}).at("peers").empty())
        ;
}

bool says_draining(const json& outcome) {
    return outcome.at("error").at("code") == "stopped"
           && outcome.at("error").at("text").get<std::string>().find("is draining")
                  != std::string::npos;
}

} // namespace

TEST_CASE("end to end: after SIGTERM what has met its peer ends with success, all else is refused "
          "by name on both sides, and the exit status is 143") {
    instance_processes context{{"context", 1, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    const request met{1, {0, 1}, {2, 3}, 32, false};
    const request alone{2, {4, 5}, {6, 7}, 32, false};
    const request late{3, {8, 9}, {10, 11}, 32, false};
    context[0].ask({{"do", "open"}, {"rid", met.rid}});
    receive(generation, context.endpoint, met);
    await_receiver(context[0], met.rid);
    send(context, alone); // nobody asks for it
    context[0].terminate();
    CHECK(says_draining(context[0].outcome(alone.rid)));
    receive(generation, context.endpoint, late);
    CHECK(says_draining(generation[0].outcome(late.rid)));
    send(context, met);
    CHECK(context[0].outcome(met.rid).at("state") == "KV_TRANSFERRED");
    CHECK(generation[0].outcome(met.rid).at("state") == "KV_TRANSFERRED");
    CHECK(context[0].wait_for("stopped").at("unproven").empty());
    CHECK(context[0].wait_for_end() == 128 + SIGTERM);
    expect_clean_stop(generation);
}

TEST_CASE("end to end: a drain ends within its deadline although a session does not") {
    instance_processes context{{"context", 1, 1, small_model, 64, {"--drain-deadline", "1000"}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    const request x{1, {0, 1}, {2, 3}, 32, false};
    context[0].ask({{"do", "open"}, {"rid", x.rid}});
    receive(generation, context.endpoint, x);
    await_receiver(context[0], x.rid);
    context[0].terminate();
    CHECK(context[0].wait_for_end(10s) == 128 + SIGTERM);
    CHECK(generation[0].outcome(x.rid).at("state") == "ERROR");
    expect_clean_stop(generation);
}

TEST_CASE(
    "end to end: a stop shorter than dial_deadline is clean beside a frozen peer when nothing "
    "is lent") {
    for (const bool same_host : {true, false}) {
        CAPTURE(same_host);
        const std::vector<std::string> more = same_host
                                                  ? std::vector<std::string>{}
                                                  : std::vector<std::string>{"--no-same-host-link"};
        auto flags = more;
        flags.insert(flags.end(), {"--stop-deadline", "2000", "--dial-deadline", "30000"});
        instance_processes context{{"context", 1, 1, small_model, 64, more}};
        instance_processes generation{{"generation", 1, 1, small_model, 64, flags}};
        const request x{1, {0, 1}, {2, 3}, 32, false};
        send(context, x);
        receive(generation, context.endpoint, x);
        CHECK(generation[0].outcome(x.rid).at("state") == "KV_TRANSFERRED");
        generation[0].released(x.rid);
        context[0].freeze();
        json stopped;
        CHECK(generation[0].stop(&stopped) == 0);
        INFO(stopped.dump() << generation[0].log());
        CHECK(stopped.at("unproven").empty());
        context[0].thaw();
        context[0].kill();
    }
}

} // namespace kvferry::testing
