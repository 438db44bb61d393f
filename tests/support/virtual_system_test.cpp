// SPDX-License-Identifier: Apache-2.0
// The test tools themselves: virtual time, questions, stubs.
#include "messages/local/copies.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "tests/support/recording_stub.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

TEST_CASE("virtual_system: timers go off at their own instants and no actor runs by itself") {
    virtual_system vs;
    std::vector<std::chrono::nanoseconds> seen;
    const auto start = vs.now();
    vs.system().spawn([&](caf::event_based_actor* self) -> caf::behavior {
        auto note = [&seen, &vs, start] { seen.push_back(vs.now() - start); };
        self->run_delayed(30ms, note);
        self->run_delayed(10ms, [self, note] {
            note();
            self->run_delayed(5ms, note);
        });
        return {[](int) {}}; // an actor without messages to handle ends at once
    });
    CHECK(seen.empty());
    vs.advance(9ms);
    CHECK(seen.empty());
    vs.advance(100ms);
    CHECK(seen == std::vector<std::chrono::nanoseconds>{10ms, 15ms, 30ms});
    CHECK(vs.now() - start == 109ms);
}

TEST_CASE("recording_stub: keeps every message in order and answers as told") {
    virtual_system vs;
    stub<info_link_actor> link{vs};

    auto unanswered = vs.ask<instance_info>(link.handle(), fetch_instance_info{"a:1", 1s});
    CHECK(unanswered.pending());
    vs.run();
    CHECK(unanswered.code() == errc::unsupported);

    link.answer<fetch_instance_info>([](const fetch_instance_info&) {
        instance_info result;
        result.ranks.resize(3);
        return result;
    });
    auto answered = vs.ask_and_run<instance_info>(link.handle(), fetch_instance_info{"b:2", 1s});
    REQUIRE(answered.ok());
    CHECK(answered.value().ranks.size() == 3);

    auto done = vs.ask_and_run<void>(link.handle(), register_with_instance{});
    CHECK(done.ok());

    auto fetched = link.received<fetch_instance_info>();
    REQUIRE(fetched.size() == 2);
    CHECK(fetched[0].endpoint == "a:1");
    CHECK(fetched[1].endpoint == "b:2");
    CHECK(link.count() == 3);
}

TEST_CASE("recording_stub: stands in for an interface of several roles") {
    virtual_system vs;
    stub<tx_session_actor> session{vs};
    vs.tell_and_run(session.handle(), deadline_tick{});
    vs.tell_and_run(session.handle(), transfer_done{});
    CHECK(session.received<deadline_tick>().size() == 1);
    CHECK(session.received<transfer_done>().size() == 1);
}
