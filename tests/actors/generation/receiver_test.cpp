// SPDX-License-Identifier: Apache-2.0
// The receiver: from an instance's endpoint to writers and links, from a report to its session.
#include "actors/generation/receiver.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/outcomes.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/references.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <set>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

const std::string own = "gen:1";
const std::string context = "ctx:1";

class fixture {
public:
    virtual_system vs;
    stub<info_link_actor> info{vs};
    stub<fabric_actor> fabric{vs};
    stub<transfer_worker_actor> worker{vs};
    stub<peer_link_actor> link{vs};
    stub<observer_actor> observer{vs};
    /// Answers of the rank-info servers, by endpoint; other endpoints fail.
    std::shared_ptr<std::map<std::string, std::vector<rank_info>>> instances =
        std::make_shared<std::map<std::string, std::vector<rank_info>>>();
    limits bounds;
    receiver_actor receiver;

    explicit fixture(limits wanted = {}, bool by_message = false) : bounds(wanted) {
        (*instances)[own] = make_instance("gen", split{1}, format());
        restart_context(100);
        info.answer<fetch_instance_info>(
            [known = instances](const fetch_instance_info& ask) -> caf::result<instance_info> {
                if (auto found = known->find(ask.endpoint); found != known->end())
                    return instance_info{{}, found->second};
                return make_error(errc::dial_failed, ask.endpoint + ": nobody there");
            });
        worker.answer<connect_peer>(
            [handle = link.handle()](const connect_peer&) { return peer_connected{handle}; });
        auto self = instances->at(own).front();
        receiver = vs.track(
            spawn_at<receiver_actor, receiver_state>(vs.system(), {},
                                                     receiver_state::dependencies{{},
                                                                                  bounds,
                                                                                  self,
                                                                                  own,
                                                                                  info.handle(),
                                                                                  fabric.handle(),
                                                                                  worker.handle(),
                                                                                  1,
                                                                                  {},
                                                                                  {},
                                                                                  by_message}));
    }

    static cache_format format() {
        cache_format result;
        result.layers = 1;
        result.kv_heads = 2;
        result.head_dim = 4;
        result.tokens_per_block = 4;
        return result;
    }

    /// Ranks with the incarnations `first`, `first + 1`, ...
    void restart_context(std::uint64_t first, const split& parallel = {2}) {
        auto ranks = make_instance("ctx", parallel, format());
        for (auto& rank : ranks)
            rank.incarnation = {first + rank.rank.value};
        (*instances)[context] = std::move(ranks);
    }

    static open_rx question(std::uint64_t request, const std::string& endpoint,
                            const observer_actor& observer,
                            std::chrono::milliseconds deadline = 60s) {
        return {{request}, aux_mode::none, endpoint, 0, observer, deadline};
    }

    rx_opened open(std::uint64_t request, const std::string& endpoint = context,
                   std::chrono::milliseconds deadline = 60s) {
        auto opened = vs.ask_and_run<rx_opened>(
            receiver, question(request, endpoint, observer.handle(), deadline));
        REQUIRE(opened.ok());
        vs.track(opened.value().session);
        vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
        return opened.value();
    }

    void come_up(std::uint64_t process, bool process_watched = false) {
        auto view = std::make_shared<peer_view>();
        view->process_watched = process_watched;
        for (const auto& [endpoint, ranks] : *instances)
            for (const auto& rank : ranks)
                if (rank.incarnation.value == process)
                    view->info = rank;
        view->link = link.handle();
        vs.tell_and_run(receiver, peer_ready{std::move(view)});
    }
    /// All that were dialled. Returns them in that order.
    std::vector<std::uint64_t> writers_come_up() {
        std::vector<std::uint64_t> result;
        for (const auto& dialled : worker.received<connect_peer>())
            result.push_back(dialled.peer.incarnation.value);
        for (auto process : result)
            come_up(process);
        return result;
    }
    void go_down(std::uint64_t process) {
        vs.tell_and_run(receiver, peer_lost{{process}, make_error(errc::link_lost, "no route")});
    }

    void report(const rx_opened& session, std::uint64_t process) {
        kv_agent_result message;
        message.header.sender = {process};
        message.header.attempt = session.attempt;
        message.header.writer = {static_cast<std::uint32_t>(process % 100)};
        message.header.kind = payload_kind::kv;
        message.header.piece.last = true;
        vs.tell_and_run(receiver, message);
    }

    std::size_t fetches(const std::string& endpoint) {
        auto all = info.received<fetch_instance_info>();
        return static_cast<std::size_t>(std::count_if(
            all.begin(), all.end(), [&](const auto& x) { return x.endpoint == endpoint; }));
    }
    template <class Message>
    std::vector<Message> sent() {
        std::vector<Message> result;
        for (const auto& sent : link.received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }
    /// The session dies by an error that it does not handle.
    void die(const rx_opened& session) {
        caf::anon_send_exit(session.session, caf::exit_reason::unknown);
        vs.run();
    }
    std::size_t releases() { return observer.received<session_released>().size(); }
    std::vector<session_finished> outcomes() { return observer.received<session_finished>(); }
};

} // namespace

TEST_CASE("receiver: a rank that is told to receive from its own instance says so by name") {
    fixture test;
    test.open(7, own);
    auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 1);
    CHECK(code_of(outcomes[0].error) == errc::invalid_argument);
    CHECK(contains(text_of(outcomes[0].error), "gen:1 is the endpoint of gen/0 itself"));
    CHECK(test.worker.received<connect_peer>().empty());
}

TEST_CASE(
    "receiver: asks every rank of the KV cohort, once its link is up, and names all who ask it") {
    fixture test;
    auto session = test.open(7);
    auto dialled = test.worker.received<connect_peer>();
    REQUIRE(dialled.size() == 2);
    CHECK(dialled[0].peer.incarnation == incarnation{100});
    CHECK(dialled[1].peer.incarnation == incarnation{101});
    CHECK(test.sent<request_data>().empty());
    test.come_up(100);
    test.come_up(101);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 2);
    CHECK(asked[0].header.attempt == session.attempt);
    CHECK(asked[0].receivers == std::vector<rank_id>{{0}});
    test.report(session, 100);
    test.report(session, 101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE(
    "receiver: after a session that failed the next one asks which ranks its instance has now, "
    "and goes there") {
    fixture test;
    test.open(1, context, 2s);
    test.come_up(100);
    test.come_up(101);
    const auto known = test.worker.received<connect_peer>().size();
    test.restart_context(200); // the name points elsewhere; nothing happens to the former ranks
    test.open(2, context, 60s);
    CHECK(test.fetches(context) == 1);
    test.vs.advance(2s); // nobody serves the first one there
    REQUIRE(test.outcomes().size() == 1);
    SUBCASE("others answer") {
        test.open(3);
        CHECK(test.fetches(context) == 2);
        std::set<std::uint64_t> dialled;
        for (const auto& x : test.worker.received<connect_peer>())
            dialled.insert(x.peer.incarnation.value);
        CHECK(dialled == std::set<std::uint64_t>{100, 101, 200, 201});
        test.open(4);
        CHECK(test.fetches(context) == 2);
    }
    SUBCASE("nobody answers: those known are better than none") {
        test.instances->erase(context);
        test.open(3);
        CHECK(test.fetches(context) == 2);
        CHECK(test.worker.received<connect_peer>().size() == known);
        CHECK(test.outcomes().size() == 1);
    }
}

TEST_CASE("receiver: sessions that fail one after the other do not ask one after the other") {
    fixture test;
    for (std::uint64_t request = 1; request <= 100; ++request) {
        test.open(request, context, 5ms);
        test.vs.advance(10ms);
    }
    CHECK(test.outcomes().size() == 100);
    CHECK(test.fetches(context) <= 2);
}

TEST_CASE("receiver: an instance listed in any order is understood") {
    fixture test;
    std::reverse(test.instances->at(context).begin(), test.instances->at(context).end());
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.report(session, 100); // rank 0 with incarnation 100: not swapped
    test.report(session, 101);
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE("receiver: many sessions cost one question per instance and one dial per rank") {
    fixture test;
    std::vector<reply<rx_opened>> opened;
    for (std::uint64_t request = 1; request <= 5; ++request)
        opened.push_back(test.vs.ask<rx_opened>(
            test.receiver, fixture::question(request, context, test.observer.handle())));
    test.vs.run();
    std::set<attempt> attempt;
    for (const auto& one : opened) {
        REQUIRE(one.ok());
        attempt.insert(one.value().attempt);
        test.vs.track(one.value().session);
    }
    CHECK(attempt.size() == 5);
    test.open(6);
    CHECK(test.fetches(context) == 1);
    CHECK(test.fetches(own) == 1);
    CHECK(test.worker.received<connect_peer>().size() == 2);
}

TEST_CASE("receiver: an instance that cannot be asked fails the sessions concerned only") {
    fixture test;
    test.open(7);
    test.open(8, "nowhere:1");
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{8});
    CHECK(contains(describe(test.outcomes()[0].error), "dial_failed: nowhere:1: nobody there"));
    test.open(9, "nowhere:1");
    test.vs.advance(back_off::longest);
    CHECK(test.fetches("nowhere:1") == 2); // a failure is not remembered for longer (H36)
}

TEST_CASE("receiver: sessions wait for their turn when too many instances are asked at once") {
    fixture test;
    auto refusals = std::make_shared<int>(3);
    test.info.answer<fetch_instance_info>(
        [known = test.instances,
         refusals](const fetch_instance_info& ask) -> caf::result<instance_info> {
            if (ask.endpoint == context && --*refusals >= 0)
                return make_error(errc::limit_exceeded, "info_calls_max = 64 questions are open");
            return instance_info{{}, known->at(ask.endpoint)};
        });
    test.open(7);
    CHECK(test.fetches(context) == 1);
    CHECK(test.worker.received<connect_peer>().empty());
    test.vs.advance(back_off::longest); // it asks again, more and more seldom
    CHECK(test.outcomes().empty());
    CHECK(test.worker.received<connect_peer>().size() == 2);
    CHECK(test.fetches(context) == 4);
}

TEST_CASE("receiver: an instance that does not fit fails the session with both sides' values") {
    fixture test;
    auto other = fixture::format();
    other.head_dim = 8;
    (*test.instances)["odd:1"] = make_instance("odd", {}, other);
    (*test.instances)["odd:1"][0].incarnation = {300}; // not this rank itself
    test.open(7, "odd:1");
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::layout_mismatch);
    CHECK(contains(describe(test.outcomes()[0].error), "rid 7"));
    // The context's session would wait for this rank until its deadline.
    test.come_up(300);
    const auto told = test.sent<cancel_session>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].header.request == rid{7});
    CHECK(told[0].to == side::context);
    CHECK(told[0].reason.code == errc::layout_mismatch);
    CHECK(test.sent<request_data>().empty());
}

TEST_CASE("receiver: a session that ends before it has asked says so to its writers, as soon as "
          "their links are up") {
    fixture test;
    const auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver, fixture::question(7, context, test.observer.handle()));
    REQUIRE(opened.ok());
    const auto session = opened.value().session;
    test.vs.track(session);
    SUBCASE("no link is up yet") {}
    SUBCASE("one is") {
        test.come_up(100);
    }
    test.vs.tell_and_run(session, cancel_request{make_error(errc::cancelled, "not wanted")});
    CHECK(test.releases() == 1);
    SUBCASE("and the rid stays unused") {
        test.writers_come_up();
        const auto told = test.sent<cancel_session>();
        REQUIRE(told.size() == 2);
        for (const auto& each : told) {
            CHECK(each.header.attempt == opened.value().attempt);
            CHECK(each.header.kind == payload_kind::none);
            CHECK(each.reason.code == errc::cancelled);
        }
    }
    SUBCASE("and the rid is opened anew: the former attempt must not end that session") {
        const auto before = test.sent<cancel_session>().size();
        test.open(7);
        test.writers_come_up();
        CHECK(test.sent<cancel_session>().size() == before);
        CHECK(test.sent<request_data>().size() == 2);
    }
}

TEST_CASE(
    "receiver: a session that ends before its instance is known says so to its ranks when they "
    "are (I9)") {
    fixture test;
    auto busy = std::make_shared<bool>(true);
    test.info.answer<fetch_instance_info>(
        [known = test.instances,
         busy](const fetch_instance_info& ask) -> caf::result<instance_info> {
            if (ask.endpoint == context && *busy)
                return make_error(errc::limit_exceeded, "info_calls_max = 64 questions are open");
            return instance_info{{}, known->at(ask.endpoint)};
        });
    const auto session = test.open(7);
    test.vs.tell_and_run(session.session,
                         cancel_request{make_error(errc::cancelled, "not wanted")});
    CHECK(test.releases() == 1);
    CHECK(test.worker.received<connect_peer>().empty());
    *busy = false;
    test.vs.advance(back_off::longest);
    CHECK(test.writers_come_up() == std::vector<std::uint64_t>{100, 101});
    const auto told = test.sent<cancel_session>();
    REQUIRE(told.size() == 2);
    CHECK(told[0].header.attempt == session.attempt);
    CHECK(told[0].to == side::context);
    CHECK(told[0].reason.code == errc::cancelled);
}

TEST_CASE("receiver: context ranks without a part in a session that fails are told of that") {
    fixture test;
    test.restart_context(100, split{4}); // two heads on four ranks: two ranks hold replicas
    test.open(7, context, 2s);
    const auto writers = test.writers_come_up();
    REQUIRE(writers.size() == 2);
    SUBCASE("it fails before bytes move") {
        test.vs.advance(2s);
        REQUIRE(test.outcomes().size() == 1);
        for (std::uint64_t process = 100; process < 104; ++process)
            if (std::find(writers.begin(), writers.end(), process) == writers.end())
                test.come_up(process);
        std::set<std::uint32_t> told;
        for (const auto& each : test.sent<cancel_session>())
            told.insert(each.header.writer.value);
        CHECK(told == std::set<std::uint32_t>{0, 1, 2, 3});
    }
    SUBCASE("they have heard that it needs nothing of them, and wait for their host") {
        const auto session = test.open(8, context, 2s);
        test.report(session, writers[0]);
        for (std::uint64_t process = 100; process < 104; ++process)
            if (std::find(writers.begin(), writers.end(), process) == writers.end())
                test.come_up(process);
        test.vs.tell_and_run(session.session, cancel_request{});
        std::set<std::uint32_t> told;
        for (const auto& each : test.sent<cancel_session>())
            told.insert(each.header.writer.value);
        CHECK(told.size() == 3); // all but the writer that has done its part
        CHECK_FALSE(told.contains(static_cast<std::uint32_t>(writers[0] % 100)));
    }
}

TEST_CASE("receiver: a living writer that may still write into quarantined pages is dialled until "
          "it has answered (H51)") {
    fixture test;
    const auto session = test.open(7, context, 2s);
    test.come_up(100, true);
    test.come_up(101, true);
    const auto dials = [&test] { return test.worker.received<connect_peer>().size(); };
    for (int i = 0; i < 4; ++i)
        test.go_down(100);
    CHECK(test.outcomes().size() == 1);
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, peer_lost{{100}, make_error(errc::dial_failed, "dark")});
    const auto first = dials();
    for (int round = 1; round <= 5; ++round) {
        test.vs.advance(back_off::longest);
        CHECK(dials() == first + static_cast<std::size_t>(round));
        test.vs.tell_and_run(test.receiver,
                             peer_lost{{100}, make_error(errc::dial_failed, "still dark")});
    }
    test.vs.advance(back_off::longest);
    test.come_up(100, true);
    const auto told = test.sent<cancel_session>();
    REQUIRE_FALSE(told.empty());
    CHECK(told.back().header.writer == rank_id{0});
    for (std::uint64_t process : {100, 101}) {
        gone answer{told.back().header, side::generation, {errc::gone, "unknown here"}};
        answer.header.sender = {process};
        test.vs.tell_and_run(test.receiver, answer);
    }
    CHECK(test.releases() == 1);
    const auto all = dials();
    test.go_down(100);
    test.vs.advance(5 * back_off::longest);
    CHECK(dials() == all);
}

TEST_CASE("receiver: a rank that cannot be dialled fails the session") {
    fixture test;
    test.worker.answer<connect_peer>([](const connect_peer&) -> caf::result<peer_connected> {
        return make_error(errc::stopped, "no more links");
    });
    test.open(7);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(contains(describe(test.outcomes()[0].error), "no more links"));
}

TEST_CASE(
    "receiver: after the loss of a rank its instance is asked anew, so a restart is found (H35)") {
    fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.restart_context(200);
    test.go_down(101);
    CHECK(test.outcomes().empty()); // it is dialled again, and again if that breaks
    for (int i = 0; i < 3; ++i)
        test.go_down(101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::error);
    auto again = test.open(8);
    CHECK(test.fetches(context) == 2);
    CHECK(test.fetches(own) == 1);
    test.come_up(200);
    test.come_up(201);
    test.report(again, 200);
    test.report(again, 201);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(test.outcomes()[1].state == session_state::kv_transferred);
}

TEST_CASE("receiver: a session that opens while its peers are connected asks at once") {
    fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    test.open(8);
    CHECK(test.sent<request_data>().size() == 4);
    CHECK(test.worker.received<connect_peer>().size() == 2);
}

TEST_CASE("receiver: reports go to the session of their attempt; others are answered gone") {
    fixture test;
    auto first = test.open(7);
    auto second = test.open(7); // the same rid, another attempt
    CHECK(first.attempt != second.attempt);
    test.come_up(100);
    test.come_up(101);
    test.report(second, 100);
    test.report(second, 101);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].attempt == second.attempt);
    test.report(second, 100); // late: its session has retired
    REQUIRE(test.sent<gone>().size() == 1);
    CHECK(test.sent<gone>()[0].to == side::context);
    CHECK(test.sent<gone>()[0].header.attempt == second.attempt);
    test.report({{}, attempt{1}}, 31337); // a stranger gets no answer
    CHECK(test.sent<gone>().size() == 1);
}

TEST_CASE("receiver: what asks for an end that has come already is not answered (I9)") {
    fixture test;
    test.open(7);
    test.come_up(100);
    message_header unknown;
    unknown.sender = {100};
    unknown.attempt = {1};
    test.vs.tell_and_run(test.receiver, cancel_session{unknown, side::generation, {}});
    test.vs.tell_and_run(test.receiver, gone{unknown, side::generation, {}});
    test.vs.tell_and_run(test.receiver, refused{unknown, side::generation, {}});
    CHECK(test.sent<gone>().empty());
    CHECK(test.outcomes().empty());
}

TEST_CASE("receiver: a process' end counts once what it had put on the way has been drained") {
    fixture test;
    test.open(7);
    test.come_up(100);
    test.come_up(101);
    auto releases = [&] { return test.observer.received<session_released>().size(); };
    for (int i = 0; i < 4; ++i) // each is dialled again three times, and lost again
        for (std::uint64_t process : {100, 101})
            test.go_down(process);
    CHECK(test.outcomes().size() == 1);
    SUBCASE("drained") {
        test.vs.tell_and_run(test.receiver, process_gone{{100}});
        CHECK(releases() == 0);
        test.vs.tell_and_run(test.receiver, process_gone{{101}});
        CHECK(test.fabric.received<drain_fabric>().size() == 2);
        CHECK(releases() == 1);
    }
    SUBCASE("not drained: no proof") {
        test.fabric.answer<drain_fabric>([](const drain_fabric&) -> caf::result<void> {
            return make_error(errc::stopped, "the fabric is gone");
        });
        test.vs.tell_and_run(test.receiver, process_gone{{100}});
        test.vs.tell_and_run(test.receiver, process_gone{{101}});
        CHECK(releases() == 0);
    }
}

TEST_CASE("receiver: each session ends at its own deadline") {
    fixture test;
    test.open(1, context, 30s);
    test.open(2, context, 10s);
    test.vs.advance(10s);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{2});
    CHECK(contains(describe(test.outcomes()[0].error), "a link to context rank 0"));
    test.vs.advance(20s);
    CHECK(test.outcomes().size() == 2);
}

TEST_CASE("receiver: refuses too many sessions and rids that are none, by name") {
    limits bounds;
    bounds.sessions_max = 1;
    fixture test{bounds};
    auto ask = [&](std::uint64_t request) {
        return test.vs.ask_and_run<rx_opened>(
            test.receiver, fixture::question(request, context, test.observer.handle()));
    };
    CHECK(ask(rid_max + 1).code() == errc::invalid_argument);
    test.open(1);
    auto refused = ask(2);
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(contains(text_of(refused.error()), "sessions_max = 1"));
}

TEST_CASE("receiver: a stop refuses, cancels, and answers when the last session is released") {
    fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    auto all = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(all.ok());
    CHECK(all.value().sessions.size() == 1);
    auto stopped = test.vs.ask_and_run<void>(
        test.receiver, cancel_request{make_error(errc::stopped, "gen/0 is stopping")});
    CHECK(stopped.pending());
    CHECK(test.sent<cancel_session>().size() == 2);
    CHECK(test.vs
              .ask_and_run<rx_opened>(test.receiver,
                                      fixture::question(8, context, test.observer.handle()))
              .code()
          == errc::stopped);
    test.report(session, 100);
    CHECK(stopped.pending());
    test.report(session, 101);
    CHECK(stopped.ok());
}

TEST_CASE(
    "receiver: requests are renewed before writers that wait for their host forget them (H60)") {
    fixture test;
    test.open(7, context, 600s);
    test.come_up(100);
    test.come_up(101);
    CHECK(test.sent<request_data>().size() == 2);
    test.vs.advance(test.bounds.early_request_lease);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 8);
    CHECK(asked[7].renewal);
}

TEST_CASE("receiver: a session's second clock starts with its first report") {
    fixture test;
    auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver, open_rx{{7}, aux_mode::none, context, 0, test.observer.handle(), 60s, 5s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
    test.come_up(100);
    test.come_up(101);
    test.vs.advance(50s);
    test.report(opened.value(), 100);
    test.vs.advance(4s);
    CHECK(test.outcomes().empty());
    test.vs.advance(1s);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::deadline_exceeded);
}

TEST_CASE("receiver: without a DP rank all groups of the context are asked") {
    fixture test;
    test.restart_context(100, split{2, 1, 1, true});
    auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver,
        open_rx{{7}, aux_mode::none, context, std::nullopt, test.observer.handle(), 60s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
    test.come_up(100);
    test.come_up(101);
    CHECK(test.sent<request_data>().size() == 2);
    test.report(opened.value(), 101);
    CHECK(test.sent<cancel_session>().size() == 1);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE("receiver: once a transfer has begun, context ranks without a part in it are asked for "
          "nothing (I5)") {
    fixture test;
    test.restart_context(100, split{4}); // two heads on four ranks: two ranks hold replicas
    auto session = test.open(7);
    CHECK(test.worker.received<connect_peer>().size() == 2);
    const auto writers = test.writers_come_up();
    test.report(session, writers[0]);
    CHECK(test.worker.received<connect_peer>().size() == 4);
    CHECK(test.sent<request_data>().size() == 2);
    for (std::uint64_t process = 100; process < 104; ++process)
        if (std::find(writers.begin(), writers.end(), process) == writers.end())
            test.come_up(process);
    auto asked = test.sent<request_data>();
    REQUIRE(asked.size() == 4);
    CHECK_FALSE(asked[3].kv);
    CHECK(asked[3].aux == aux_mode::none);
    CHECK(asked[3].target.groups.empty());
    CHECK(asked[3].target.last);
    test.report(session, writers[1]);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::kv_transferred);
}

TEST_CASE(
    "receiver: what it tells a bystander is said again over a new link, as long as the former one "
    "may have lost it") {
    fixture test;
    test.restart_context(100, split{4});
    auto session = test.open(7);
    const auto writers = test.writers_come_up();
    test.go_down(writers[1]); // the instance is asked anew by the next session; this one goes on
    test.come_up(writers[1]);
    test.report(session, writers[0]);
    test.report(session, writers[1]);
    REQUIRE(test.outcomes().size() == 1);
    std::uint64_t bystander = 100;
    while (std::find(writers.begin(), writers.end(), bystander) != writers.end())
        ++bystander;
    const auto notices = [&test, bystander] {
        std::size_t result = 0;
        for (const auto& asked : test.sent<request_data>())
            result += !asked.kv && asked.header.writer.value == bystander % 100 ? 1 : 0;
        return result;
    };
    test.come_up(bystander);
    CHECK(notices() == 1);
    const auto dials = test.worker.received<connect_peer>().size();
    test.go_down(bystander);
    CHECK(test.worker.received<connect_peer>().size() == dials + 1);
    test.come_up(bystander);
    CHECK(notices() == 2);
    test.vs.advance(limits{}.link_patience + 3 * limits{}.link_health_interval);
    test.go_down(bystander); // it was heard long after that
    CHECK(test.worker.received<connect_peer>().size() == dials + 1);
}

TEST_CASE("receiver: an instance that does not answer is asked again after a wait, not for every "
          "session") {
    fixture test;
    const std::string nobody = "nobody:1";
    test.open(1, nobody);
    CHECK(test.fetches(nobody) == 1);
    CHECK(test.outcomes().size() == 1);
    for (std::uint64_t request = 2; request < 10; ++request)
        test.open(request, nobody);
    CHECK(test.fetches(nobody) == 1);
    CHECK(test.outcomes().size() == 1); // the others wait, within their deadlines
    test.vs.advance(back_off::longest);
    CHECK(test.fetches(nobody) == 2);
    CHECK(test.outcomes().size() == 9);
}

TEST_CASE("receiver: sessions that come while an instance restarts are served when it is back") {
    fixture test;
    auto ranks = test.instances->extract(context);
    test.open(1);
    auto session = test.open(2);
    test.instances->insert(std::move(ranks));
    test.vs.advance(back_off::longest);
    test.come_up(100);
    test.come_up(101);
    test.report(session, 100);
    test.report(session, 101);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(test.outcomes()[1].state == session_state::kv_transferred);
}

TEST_CASE("receiver: pages of a session that died come back when all of its writers are gone") {
    fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    REQUIRE(test.sent<request_data>().size() == 2);
    test.die(session);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].state == session_state::error);
    CHECK(contains(describe(test.outcomes()[0].error), "its rx_session on gen/0 died"));
    CHECK(test.sent<cancel_session>().size() == 2);

    test.report(session, 100); // proves nothing: what a dead session asked is unknown
    test.report(session, 101);
    CHECK(test.sent<gone>().empty());
    CHECK(test.releases() == 0);
    auto list = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(list.ok());
    REQUIRE(list.value().sessions.size() == 1);
    CHECK(contains(list.value().sessions[0].waits_for, "proof that context rank 0 is gone"));
    CHECK(contains(list.value().sessions[0].waits_for, "proof that context rank 1 is gone"));

    test.vs.tell_and_run(test.receiver, process_gone{{100}});
    test.vs.tell_and_run(test.receiver, process_gone{{100}});
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, process_gone{{101}});
    CHECK(test.releases() == 1);
    CHECK(test.fabric.received<drain_fabric>().size() == 3); // before each death counts
    CHECK(test.outcomes().size() == 1);
}

TEST_CASE(
    "receiver: the writers of a session that died are asked to forget it, also over a new link; "
    "an answer is proof") {
    fixture test;
    auto session = test.open(7);
    test.come_up(100); // rank 1 is never linked, so it knows nothing
    test.die(session);
    REQUIRE(test.sent<cancel_session>().size() == 1);
    test.go_down(100);
    test.come_up(100);
    REQUIRE(test.sent<cancel_session>().size() == 2);
    gone of_a_slice;
    of_a_slice.header = test.sent<cancel_session>()[1].header;
    of_a_slice.header.sender = {100};
    of_a_slice.header.kind = payload_kind::kv;
    test.vs.tell_and_run(test.receiver, of_a_slice);
    CHECK(test.releases() == 0);
    auto of_all = of_a_slice;
    of_all.header.kind = payload_kind::none;
    test.vs.tell_and_run(test.receiver, of_all);
    CHECK(test.releases() == 1);
}

TEST_CASE("receiver: a first dial that breaks is repeated as well (H51)") {
    fixture test;
    test.open(7);
    test.come_up(101);
    for (std::size_t dials = 2; dials < 5; ++dials) {
        CHECK(test.worker.received<connect_peer>().size() == dials);
        CHECK(test.outcomes().empty());
        test.go_down(100);
    }
    test.go_down(100);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(code_of(test.outcomes()[0].error) == errc::link_lost);
}

TEST_CASE("receiver: a session that died before it knew its writers had lent nothing") {
    fixture test;
    const std::string nobody = "ctx:2";
    test.open(7, nobody); // fails at once, and the endpoint gets a pause
    REQUIRE(test.outcomes().size() == 1);
    auto waiting = test.open(8, nobody);
    REQUIRE(test.outcomes().size() == 1);
    const auto before = test.releases();
    test.die(waiting);
    REQUIRE(test.outcomes().size() == 2);
    CHECK(contains(describe(test.outcomes()[1].error), "its rx_session on gen/0 died"));
    CHECK(test.releases() == before + 1);
    auto list = test.vs.ask_and_run<session_list>(test.receiver, list_sessions{});
    REQUIRE(list.ok());
    CHECK(list.value().sessions.empty());
    test.vs.advance(60s); // its deadline, and the retry of its endpoint
    CHECK(test.outcomes().size() == 2);
}

TEST_CASE("receiver: where only this rank's own loop writes, the pages of a session that died come "
          "back when the fabric has shut its attempt out; a writer with a mapping still needs its "
          "own proof") {
    fixture test{{}, true};
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101, true);
    test.die(session);
    REQUIRE(test.fabric.received<forbid_writes>().size() == 1);
    CHECK(test.fabric.received<forbid_writes>()[0].attempt == session.attempt);
    CHECK(test.releases() == 0);
    test.vs.tell_and_run(test.receiver, process_gone{{101}});
    CHECK(test.releases() == 1);
}

TEST_CASE("receiver: a connection that breaks under a session is dialled anew at once; the session "
          "goes on when it comes up and fails when three dials break (H51)") {
    fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    const auto dials = test.worker.received<connect_peer>().size();
    test.go_down(100);
    REQUIRE(test.worker.received<connect_peer>().size() == dials + 1);
    CHECK(test.worker.received<connect_peer>().back().peer.incarnation == incarnation{100});
    CHECK(test.outcomes().empty());
    SUBCASE("it comes up") {
        test.come_up(100);
        CHECK(test.sent<request_data>().size() == 3);
        test.report(session, 100);
        test.report(session, 101);
        CHECK(test.releases() == 1);
    }
    SUBCASE("it does not") {
        for (int i = 0; i < 3; ++i) {
            CHECK(test.outcomes().empty());
            test.go_down(100);
        }
        CHECK(test.worker.received<connect_peer>().size() == dials + 3);
        REQUIRE(test.outcomes().size() == 1);
        CHECK(test.outcomes()[0].state == session_state::error);
        CHECK(code_of(test.outcomes()[0].error) == errc::link_lost);
    }
}

TEST_CASE(
    "receiver: a broken connection that no session needs is not dialled again, nor a peer that has "
    "left or refuses") {
    fixture test;
    auto session = test.open(7);
    test.come_up(100);
    test.come_up(101);
    const auto dials = test.worker.received<connect_peer>().size();
    SUBCASE("no session") {
        test.report(session, 100);
        test.report(session, 101);
        test.go_down(100);
    }
    SUBCASE("it has left") {
        test.vs.tell_and_run(test.receiver,
                             peer_lost{{100}, make_error(errc::peer_gone, "its process is gone")});
        CHECK(test.outcomes().size() == 1);
    }
    CHECK(test.worker.received<connect_peer>().size() == dials);
}

TEST_CASE("receiver: of a session that has ended nothing stays in memory, however it ended") {
    fixture test{{}, true};
    test.come_up(100);
    test.come_up(101);
    auto opened = test.vs.ask_and_run<rx_opened>(
        test.receiver, fixture::question(7, context, test.observer.handle()));
    REQUIRE(opened.ok());
    const watched_actor session{opened.value().session};
    SUBCASE("with success") {
        test.vs.tell_and_run(opened.value().session, receive_slice{{{0, 4}, 4, {{0, {1}}}, true}});
        test.report(opened.value(), 100);
        test.report(opened.value(), 101);
    }
    SUBCASE("cancelled before anything was lent") {
        test.vs.tell_and_run(opened.value().session, cancel_request{});
    }
    SUBCASE("with its actor") {
        test.die(opened.value());
    }
    REQUIRE(test.outcomes().size() == 1);
    REQUIRE(test.releases() == 1);
    opened = {};
    test.vs.run();
    CHECK(session.references() == 0);
}

TEST_CASE("receiver: its sessions end with it") {
    fixture test;
    test.open(7);
    test.open(8);
    caf::anon_send_exit(test.receiver, caf::exit_reason::unknown);
    test.vs.run();
    REQUIRE(test.outcomes().size() == 2);
    for (const auto& outcome : test.outcomes())
        CHECK(contains(describe(outcome.error), "the receiver of gen/0 died"));
}

TEST_CASE("receiver: an event of a peer reaches the sessions that need it, and no other") {
    fixture test;
    (*test.instances)["other:1"] = make_instance("other", {}, fixture::format());
    (*test.instances)["other:1"][0].incarnation = {200};
    for (std::uint64_t request = 1; request <= 30; ++request)
        test.open(request);
    test.open(31, "other:1");
    test.come_up(100);
    test.come_up(101);
    auto view = std::make_shared<peer_view>();
    view->info = (*test.instances)["other:1"][0];
    view->link = test.link.handle();
    CHECK(test.vs.disturbed_by(test.receiver, peer_ready{view}) == 1);
    CHECK(test.vs.disturbed_by(test.receiver, peer_lost{{200}, make_error(errc::peer_gone, "x")})
          == 1);
    REQUIRE(test.outcomes().size() == 1);
    CHECK(test.outcomes()[0].request == rid{31});
    CHECK(test.vs.disturbed_by(test.receiver, peer_lost{{100}, make_error(errc::peer_gone, "x")})
          == 30);
    CHECK(test.outcomes().size() == 31);
}
