// SPDX-License-Identifier: Apache-2.0
// What every handler of every actor is promised: traced, counted, and safe from its own exceptions.
#include "messages/local/info_exchange.hpp"
#include "messages/local/sessions.hpp"
#include "messages/trace/handle.hpp"
#include "tests/support/recording_stub.hpp"

#include <caf/stateful_actor.hpp>
#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Throws on an empty endpoint; otherwise answers, or passes a notice on to `next`.
struct clumsy_state {
    static inline constexpr const char* name = "clumsy";

    struct dependencies {
        std::vector<caf::error>* failures = nullptr;
        sender_actor next;
    };

    clumsy_state(info_link_actor::pointer self, dependencies with)
        : self_(self), with_(std::move(with)) {}

    info_link_actor::behavior_type make_behavior() {
        return {handle(this, &clumsy_state::on_fetch), handle(this, &clumsy_state::on_register),
                handle(this, &clumsy_state::on_publish)};
    }

    caf::result<instance_info> on_fetch(fetch_instance_info question) {
        if (question.endpoint.empty())
            throw std::runtime_error{"no endpoint at all"};
        instance_info result;
        result.ranks.resize(2);
        return result;
    }

    void on_register(const register_with_instance& question) {
        if (question.endpoint.empty())
            throw 42;
        tell(self_, with_.next, session_retired{{7}, {8}, {}});
    }

    caf::result<info_server_published> on_publish(publish_info_server) {
        return make_error(errc::unsupported, "not here");
    }

    void handler_failed(const caf::error& error) { with_.failures->push_back(error); }

private:
    info_link_actor::pointer self_;
    dependencies with_;
};

struct fixture {
    virtual_system vs;
    stub<sender_actor> next{vs};
    std::vector<caf::error> failures;
    info_link_actor clumsy =
        vs.track(vs.system().spawn<caf::stateful_actor<clumsy_state, info_link_actor::impl>>(
            clumsy_state::dependencies{&failures, next.handle()}));
};

/// Throws when it is answered.
struct asker_state {
    static inline constexpr const char* name = "asker";
    asker_state(rank_info_server_actor::pointer self, info_link_actor other)
        : self(self), other(std::move(other)) {}
    rank_info_server_actor::behavior_type make_behavior() {
        return {
            [this](const register_rank_info&) {
                ask(self, other, fetch_instance_info{"a:1", {}})
                    .then([](const instance_info&) { throw std::runtime_error{"no"}; },
                          [](const caf::error&) {});
            },
            [](const request_instance_info&) { return instance_info{}; },
            [](const info_frame& x) { return x; },
            [](const list_ranks&) { return ranks_listed{}; },
        };
    }
    rank_info_server_actor::pointer self;
    info_link_actor other;
};

} // namespace

TEST_CASE_FIXTURE(
    fixture,
    "handle: a handler that throws answers handler_failed, is counted, and the actor lives on") {
    const auto counters = std::make_shared<rank_counters>();
    const counting_for rank{counters};

    auto thrown = vs.ask_and_run<instance_info>(clumsy, fetch_instance_info{});
    CHECK(thrown.code() == errc::handler_failed);
    CHECK(text_of(thrown.error()) == "clumsy failed on fetch_instance_info: no endpoint at all");

    auto foreign = vs.ask_and_run<void>(clumsy, register_with_instance{});
    CHECK(foreign.code() == errc::handler_failed);
    CHECK(text_of(foreign.error()).find("an exception of unknown type") != std::string::npos);

    CHECK(counters->handler_failures.load() == 2);
    REQUIRE(failures.size() == 2);
    CHECK(describe(failures[0]) == describe(thrown.error()));

    auto fine = vs.ask_and_run<instance_info>(clumsy, fetch_instance_info{"a:1", {}});
    REQUIRE(fine.ok());
    CHECK(fine.value().ranks.size() == 2);
}

TEST_CASE_FIXTURE(fixture, "handle: an error that is returned is an answer, not a failure") {
    auto refused = vs.ask_and_run<info_server_published>(clumsy, publish_info_server{});
    CHECK(refused.code() == errc::unsupported);
    CHECK(failures.empty());
}

TEST_CASE_FIXTURE(fixture, "handle: a message that nobody asked about may fail unanswered") {
    vs.tell_and_run(clumsy, fetch_instance_info{});
    CHECK(failures.size() == 1);
}

TEST_CASE("handle: a message has its three instants, in order, under its own name") {
    std::vector<trace::event> events;
    std::thread{[&] { // a new thread gets a new ring
        fixture f;
        tell_from_outside(f.clumsy, register_with_instance{"a:1", {}, {}});
        f.vs.run();
        tell_from_outside(f.clumsy, fetch_instance_info{});
        f.vs.run();
        events = trace::this_thread().events;
    }}
        .join();
    struct row {
        trace::instant what;
        std::string_view actor, message;
        std::uint64_t rid;
    };
    const row expected[] = {
        {trace::instant::sent, "host", "register_with_instance", 0},
        {trace::instant::dequeued, "clumsy", "register_with_instance", 0},
        {trace::instant::sent, "clumsy", "session_retired", 7},
        {trace::instant::done, "clumsy", "register_with_instance", 0},
        {trace::instant::sent, "host", "fetch_instance_info", 0},
        {trace::instant::dequeued, "clumsy", "fetch_instance_info", 0},
        {trace::instant::done, "clumsy", "fetch_instance_info", 0}}; // though it threw
    REQUIRE(events.size() == std::size(expected));
    for (std::size_t i = 0; i < events.size(); ++i) {
        CAPTURE(i);
        CHECK((events[i].what == expected[i].what)); // a bit-field cannot be bound
        CHECK(std::string_view{events[i].actor} == expected[i].actor);
        CHECK(std::string_view{events[i].message} == expected[i].message);
        CHECK(events[i].rid == expected[i].rid);
        if (i > 0)
            CHECK(events[i].ticks >= events[i - 1].ticks);
    }
}

TEST_CASE("handle: without a target nothing is sent and nothing recorded") {
    std::size_t recorded = 1;
    std::thread{[&] {
        tell_from_outside(sender_actor{}, session_retired{});
        recorded = trace::this_thread().events.size();
    }}.join();
    CHECK(recorded == 0);
}

TEST_CASE_FIXTURE(fixture,
                  "ask: what the handler of an answer throws is counted, and the actor lives on") {
    const auto counters = std::make_shared<rank_counters>();
    const counting_for rank{counters};
    auto asker = vs.track(
        vs.system().spawn<caf::stateful_actor<asker_state, rank_info_server_actor::impl>>(clumsy));
    vs.tell_and_run(asker, register_rank_info{});
    CHECK(counters->handler_failures.load() == 1);
    CHECK(vs.ask_and_run<instance_info>(asker, request_instance_info{}).ok());
}
