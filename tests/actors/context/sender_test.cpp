// SPDX-License-Identifier: Apache-2.0
// The sender: sessions by rid, requests that come before their session, leases, and every way to
// end.
#include "actors/context/sender.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/outcomes.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/references.hpp"

#include <map>
#include <memory>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

class fixture {
public:
    virtual_system vs;
    stub<fabric_actor> fabric{vs};
    stub<copy_actor> copy{vs};
    stub<observer_actor> observer{vs};
    limits bounds;
    sender_actor sender;

    explicit fixture(limits wanted = {}) : bounds(wanted) {
        cache_format format;
        format.layers = 1;
        format.kv_heads = 1;
        format.head_dim = 4;
        format.tokens_per_block = 4;
        peer_ = make_instance("gen", {}, format).front();
        auto environment = std::make_shared<sender_environment>();
        environment->bounds = bounds;
        environment->fabric = fabric.handle();
        environment->copy = copy.handle();
        environment->self = make_instance("ctx", {}, format).front();
        environment->regions = {{0x1000, 4096, memory_kind::host_shared, {}}};
        environment->source_pools = {
            {0x1000, environment->self.pages->pools[0].slot_stride_bytes, 0}};
        environment->memory = {{{memory_kind::host_shared, mapped_region::by_host, {}}}, {0}, {}};
        environment->plans = std::make_shared<plan_cache>();
        sender = vs.track(spawn_at<sender_actor, sender_state>(vs.system(), {}, environment));
        come_up(1);
    }

    reply<tx_opened> open(std::uint64_t request, std::chrono::milliseconds deadline = 60s) {
        auto result = vs.ask_and_run<tx_opened>(
            sender, open_tx{{request}, aux_mode::none, observer.handle(), deadline});
        if (result.ok())
            vs.track(result.value().session);
        return result;
    }

    /// A peer whose regions are not mapped, so that every slice becomes a put.
    void come_up(std::uint64_t process, std::vector<mapped_region> mapped = {}) {
        auto view = std::make_shared<peer_view>();
        view->info = peer_;
        view->info.incarnation = {process};
        view->regions = {{0x1000, 4096, memory_kind::host_shared, {}}};
        view->mapped = std::move(mapped);
        view->unmapped_reason = "another machine";
        view->link = link(process).handle();
        vs.tell_and_run(sender, peer_ready{std::move(view)});
    }
    /// From now on the peer holds only a layer that this rank does not have.
    void make_bystander() {
        for (auto& group : peer_.pages->groups)
            for (auto& layer : group.layers)
                layer += 1;
        come_up(1);
    }
    void go_down(std::uint64_t process) {
        vs.tell_and_run(sender, peer_lost{{process}, make_error(errc::link_lost, "no route")});
    }

    static kv_slice slice() { return {{0, 4}, 4, {{0, {1}}}, true}; }

    static request_data ask(std::uint64_t request, attempt attempt = {11},
                            std::uint64_t process = 1) {
        request_data result;
        result.header.sender = {process};
        result.header.request = {request};
        result.header.attempt = attempt;
        result.header.kind = payload_kind::kv;
        result.target = slice();
        result.receivers = {{0}};
        return result;
    }
    void request(request_data asked) { vs.tell_and_run(sender, std::move(asked)); }

    void cancel(std::uint64_t request, attempt attempt = {11}) {
        cancel_session message{
            ask(request, attempt).header, side::context, {errc::cancelled, "not wanted"}};
        message.header.kind = payload_kind::none;
        vs.tell_and_run(sender, message);
    }

    stub<peer_link_actor>& link(std::uint64_t process) {
        auto& slot = links_[process];
        if (!slot)
            slot = std::make_unique<stub<peer_link_actor>>(vs);
        return *slot;
    }

    template <class Message>
    std::vector<Message> sent_to(std::uint64_t process) {
        std::vector<Message> result;
        for (const auto& sent : link(process).received<send_message>())
            if (const auto* message = std::get_if<Message>(&sent.message))
                result.push_back(*message);
        return result;
    }
    /// The session dies by an error that it does not handle.
    void die(const reply<tx_opened>& session) {
        caf::anon_send_exit(session.value().session, caf::exit_reason::unknown);
        vs.run();
    }
    std::vector<gone> answers() { return sent_to<gone>(1); }
    std::vector<start_put> puts() { return fabric.received<start_put>(); }

private:
    rank_info peer_;
    std::map<std::uint64_t, std::unique_ptr<stub<peer_link_actor>>> links_;
};

} // namespace

TEST_CASE(
    "sender: a request that comes before its session is remembered and served when it opens") {
    fixture test;
    test.request(fixture::ask(7));
    test.vs.advance(100s);
    CHECK(test.answers().empty());
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().size() == 1);
    test.vs.advance(30s); // without a renewal its lease would be over
    CHECK(test.answers().empty());
}

TEST_CASE(
    "sender: a request whose session never opens is answered gone when its lease ends (H60, H61)") {
    fixture test;
    test.request(fixture::ask(7));
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    CHECK(test.answers().empty());
    test.vs.advance(1ms);
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].header.attempt == attempt{11});
    CHECK(contains(test.answers()[0].reason.text,
                   "rid 7 was not opened on ctx/0 within early_request_lease"));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().empty()); // the receiver gave this request up
    test.vs.advance(500s);
    CHECK(test.answers().size() == 1);
}

TEST_CASE("sender: a further request of the same rid renews the lease") {
    fixture test;
    test.request(fixture::ask(7));
    test.vs.advance(80s);
    auto second = fixture::ask(7);
    second.header.receive_slice = {1};
    test.request(second);
    test.vs.advance(80s);
    CHECK(test.answers().empty());
    test.vs.advance(40s);
    CHECK(test.answers().size() == 2);
}

TEST_CASE("sender: a replayed early request is served once (H23)") {
    fixture test;
    test.request(fixture::ask(7));
    test.request(fixture::ask(7));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().size() == 1);
}

TEST_CASE("sender: early_requests_max is enforced, and room is given back") {
    limits bounds;
    bounds.early_requests_max = 2;
    fixture test{bounds};
    auto refusals = [&] { return test.sent_to<refused>(1).size(); };
    test.request(fixture::ask(1));
    test.request(fixture::ask(1)); // a replay of the same request takes no second place
    test.request(fixture::ask(2));
    CHECK(refusals() == 0);
    test.request(fixture::ask(3));
    REQUIRE(refusals() == 1);
    CHECK(contains(test.sent_to<refused>(1)[0].reason.text, "early_requests_max = 2"));
    SUBCASE("when a session opens") {
        CHECK(test.open(1).ok());
    }
    SUBCASE("when the receiver cancels") {
        test.cancel(1);
    }
    SUBCASE("when the lease ends") {
        test.vs.advance(bounds.early_request_lease);
    }
    SUBCASE("when the peer is lost") {
        test.go_down(1);
        test.come_up(1);
    }
    test.request(fixture::ask(4));
    CHECK(refusals() == 1);
}

TEST_CASE("sender: a peer's early requests vanish with it, others stay") {
    fixture test;
    test.come_up(2);
    test.request(fixture::ask(7, {11}, 1));
    test.request(fixture::ask(7, {22}, 2));
    test.go_down(1);
    test.vs.advance(test.bounds.early_request_lease);
    CHECK(test.answers().empty());
    CHECK(test.sent_to<gone>(2).size() == 1);
}

TEST_CASE("sender: a request of a peer without a link is ignored") {
    fixture test;
    test.request(fixture::ask(7, {11}, 31337));
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().empty());
}

TEST_CASE("sender: a cancel of what waits, or of what nobody knows, is answered gone (I9)") {
    fixture test;
    test.request(fixture::ask(7));
    test.cancel(7);
    test.cancel(7);
    test.cancel(8);
    CHECK(test.answers().size() == 3);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().empty());
}

TEST_CASE("sender: what a receiver has given up before its session opens ends that at once") {
    limits bounds;
    bounds.early_requests_max = 4;
    fixture test{bounds};
    const auto outcomes = [&test] { return test.observer.received<session_finished>(); };
    SUBCASE("before or after it had asked") {
        test.request(fixture::ask(8));
        for (const std::uint64_t request : {7, 8}) {
            test.cancel(request);
            REQUIRE(test.open(request).ok());
        }
        REQUIRE(outcomes().size() == 2);
        for (const auto& each : outcomes()) {
            CHECK(each.state == session_state::cancelled);
            CHECK(contains(text_of(each.error), "not wanted"));
        }
        CHECK(test.observer.received<session_released>().size() == 2);
    }
    SUBCASE("unless it asks with another attempt") {
        test.cancel(7);
        test.request(fixture::ask(7, {12}));
        const auto opened = test.open(7);
        REQUIRE(opened.ok());
        test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
        CHECK(test.puts().size() == 1);
        CHECK(outcomes().empty());
    }
    SUBCASE("for one lease") {
        test.cancel(7);
        test.vs.advance(bounds.early_request_lease);
        REQUIRE(test.open(7).ok());
        CHECK(outcomes().empty());
    }
    SUBCASE("but not because another group runs the request") {
        cancel_session dismissed{
            fixture::ask(7).header, side::context, {errc::not_selected, "group 1 runs it"}};
        dismissed.header.kind = payload_kind::none;
        test.vs.tell_and_run(test.sender, dismissed);
        REQUIRE(test.open(7).ok());
        CHECK(outcomes().empty());
    }
    SUBCASE("and never takes the room of requests") {
        for (std::uint64_t request = 10; request < 20; ++request)
            test.cancel(request);
        for (std::uint64_t request = 1; request <= 4; ++request)
            test.request(fixture::ask(request));
        CHECK(test.sent_to<refused>(1).empty());
    }
}

TEST_CASE("sender: a receiver that gives up before it asks ends the session that waits for it") {
    fixture test;
    REQUIRE(test.open(7).ok());
    test.cancel(7);
    REQUIRE(test.observer.received<session_finished>().size() == 1);
    CHECK(test.observer.received<session_finished>()[0].state == session_state::cancelled);
    CHECK(test.answers().size() == 1);
    SUBCASE("its late cancel does not end the next session of the rid") {
        test.request(fixture::ask(7)); // answered: the rid was given up
        REQUIRE(test.open(7).ok());
        test.cancel(7);
        CHECK(test.observer.received<session_finished>().size() == 1);
        CHECK(test.answers().size() == 3);
    }
}

TEST_CASE("sender: a rid has one live session; its number is free again after release") {
    fixture test;
    auto first = test.open(7);
    REQUIRE(first.ok());
    auto second = test.open(7);
    CHECK(second.code() == errc::duplicate);
    CHECK(contains(text_of(second.error()), "rid 7"));
    test.vs.tell_and_run(first.value().session, cancel_request{make_error(errc::cancelled, "no")});
    CHECK(test.open(7).ok());
}

TEST_CASE("sender: a rid of more than 63 bits is refused") {
    fixture test;
    CHECK(test.open(rid_max).ok());
    CHECK(test.open(rid_max + 1).code() == errc::invalid_argument);
}

TEST_CASE("sender: later requests of a cancelled rid are answered with the cause, until the lease "
          "ends (H29)") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session,
                         cancel_request{make_error(errc::cancelled, "the host cancelled")});
    test.request(fixture::ask(7));
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].reason == wire_error{errc::cancelled, "the host cancelled"});
    SUBCASE("forgotten after the lease") {
        test.vs.advance(test.bounds.early_request_lease);
        test.request(fixture::ask(7));
        CHECK(test.answers().size() == 1);
    }
    SUBCASE("a receiver that asks again with another attempt waits for a new session at once") {
        test.request(fixture::ask(7, {12}));
        test.request(fixture::ask(7)); // the former attempt is still answered
        CHECK(test.answers().size() == 2);
        auto again = test.open(7);
        REQUIRE(again.ok());
        test.vs.tell_and_run(again.value().session, send_slice{fixture::slice()});
        CHECK(test.puts().size() == 1);
        CHECK(test.answers().size() == 2);
    }
    SUBCASE("that one's lease ends like any") {
        test.request(fixture::ask(7, {12}));
        test.vs.advance(test.bounds.early_request_lease);
        CHECK(test.answers().size() == 2);
        test.request(fixture::ask(7)); // the sender has forgotten the rid
        CHECK(test.answers().size() == 2);
    }
    SUBCASE("giving up a new attempt does not shorten the memory, nor prolong it for ever") {
        test.request(fixture::ask(7, {12}));
        test.cancel(7, {12});
        CHECK(test.answers().size() == 2);
        test.request(fixture::ask(7));
        CHECK(test.answers().size() == 3);
        test.vs.advance(test.bounds.early_request_lease);
        test.request(fixture::ask(7));
        CHECK(test.answers().size() == 3);
    }
    SUBCASE("forgotten when the host opens the rid anew") {
        CHECK(test.open(7).ok());
        test.request(fixture::ask(7, {12}));
        CHECK(test.answers().size() == 1);
    }
}

TEST_CASE("sender: a request that crosses the end of its session is answered all the same (H59)") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    // Both messages are in mailboxes before either is handled.
    caf::anon_send(opened.value().session,
                   cancel_request{make_error(errc::cancelled, "the host cancelled")});
    caf::anon_send(test.sender, fixture::ask(7));
    test.vs.run();
    REQUIRE(test.answers().size() == 1);
    CHECK(test.answers()[0].reason.code == errc::cancelled);
}

TEST_CASE("sender: sessions_max is enforced by name") {
    limits bounds;
    bounds.sessions_max = 1;
    fixture test{bounds};
    CHECK(test.open(1).ok());
    auto refused = test.open(2);
    CHECK(refused.code() == errc::limit_exceeded);
    CHECK(contains(text_of(refused.error()), "sessions_max = 1"));
}

TEST_CASE("sender: each session ends at its own deadline (H62)") {
    fixture test;
    CHECK(test.open(1, 30s).ok());
    CHECK(test.open(2, 10s).ok());
    test.vs.advance(10s);
    auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 1);
    CHECK(outcomes[0].request == rid{2});
    CHECK(code_of(outcomes[0].error) == errc::deadline_exceeded);
    test.vs.advance(20s);
    CHECK(test.observer.received<session_finished>().size() == 2);
}

TEST_CASE("sender: a stop refuses, cancels, and answers when the last session is gone") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    test.request(fixture::ask(7));
    test.request(fixture::ask(8)); // waits for its session
    REQUIRE(test.puts().size() == 1);
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    CHECK(stopped.pending()); // a put is in flight
    CHECK(test.answers().size() == 1);
    CHECK(test.open(9).code() == errc::stopped);
    test.request(fixture::ask(9));
    CHECK(test.answers().size() == 2);
    test.vs.tell_and_run(opened.value().session,
                         transfer_done{test.puts()[0].id,
                                       agent_result::failed,
                                       0,
                                       make_error(errc::transfer_failed, "cut"),
                                       {},
                                       {}});
    CHECK(stopped.ok());
    CHECK(test.vs.ask_and_run<void>(test.sender, cancel_request{make_error(errc::stopped, "again")})
              .ok());
}

TEST_CASE("sender: a copy into a peer's memory that is in doubt lets no stop end in order (I2)") {
    limits bounds;
    bounds.inline_copy_bytes_max = 0;
    fixture test{bounds};
    std::vector<std::byte> memory(4096);
    test.come_up(1, {{0, memory.data(), memory.size(), nullptr}});
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    test.request(fixture::ask(7));
    const auto copies = test.copy.received<start_copy>();
    REQUIRE(copies.size() == 1);
    auto result = agent_result::in_doubt;
    SUBCASE("a launch that nobody knows the end of") {}
    SUBCASE("one that has failed lets it end") {
        result = agent_result::failed;
    }
    test.vs.tell_and_run(
        opened.value().session,
        transfer_done{copies[0].id, result, 0, make_error(errc::cuda_failed, "lost"), {}, {}});
    CHECK(test.observer.received<session_released>().size() == 1); // the source is read no more
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    REQUIRE_FALSE(stopped.pending());
    CHECK(stopped.ok() == (result == agent_result::failed));
    if (!stopped.ok())
        CHECK(contains(describe(stopped.error()), "rid 7 on ctx/0: a copy into a peer's memory"));
}

TEST_CASE("sender: lists all its sessions") {
    fixture test;
    CHECK(test.open(1).ok());
    CHECK(test.open(2).ok());
    auto all = test.vs.ask_and_run<session_list>(test.sender, list_sessions{});
    REQUIRE(all.ok());
    CHECK(all.value().sessions.size() == 2);
}

TEST_CASE(
    "sender: a renewed request is kept for another lease; one that is unknown is answered gone") {
    fixture test;
    auto again = fixture::ask(7);
    again.renewal = true;
    test.request(again);
    REQUIRE(test.answers().size() == 1);
    CHECK(contains(test.answers()[0].reason.text, "rid 7 is not waiting on ctx/0 any more"));
    test.request(fixture::ask(7));
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    test.request(again);
    test.vs.advance(test.bounds.early_request_lease - 1ms);
    CHECK(test.answers().size() == 1);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().size() == 1); // one put, although the request came more than once
}

TEST_CASE("sender: the wait for the peer and the transfer have clocks of their own") {
    fixture test;
    auto opened = test.vs.ask_and_run<tx_opened>(
        test.sender, open_tx{{7}, aux_mode::none, test.observer.handle(), 60s, 10s});
    REQUIRE(opened.ok());
    test.vs.track(opened.value().session);
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    test.vs.advance(59s);
    test.request(fixture::ask(7));
    REQUIRE(test.puts().size() == 1);
    test.vs.advance(9s);
    CHECK(test.observer.received<session_finished>().empty());
    test.vs.advance(1s);
    REQUIRE(test.observer.received<session_finished>().size() == 1);
    CHECK(code_of(test.observer.received<session_finished>()[0].error) == errc::deadline_exceeded);
}

TEST_CASE("sender: a session of which no receiver wants bytes ends when its host has sent "
          "everything (I5)") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    auto notice = fixture::ask(7);
    notice.kv = false;
    notice.target.groups.clear();
    notice.header.kind = payload_kind::none;
    SUBCASE("but not when the layouts say that it has bytes to send") {
        test.request(notice);
        CHECK(test.observer.received<session_finished>().at(0).state == session_state::error);
    }
    SUBCASE("a rank that has no bytes for the receiver") {
        test.make_bystander();
        test.request(notice);
        CHECK(test.observer.received<session_finished>().at(0).state
              == session_state::kv_transferred);
        CHECK(test.puts().empty());
    }
}

TEST_CASE("sender: requests for nothing never take the room of requests that count") {
    limits bounds;
    bounds.early_requests_max = 4;
    fixture test{bounds};
    for (std::uint64_t request = 1; request <= 10; ++request) {
        auto notice = fixture::ask(request);
        notice.kv = false;
        test.request(notice);
    }
    test.request(fixture::ask(11));
    test.request(fixture::ask(12));
    CHECK(test.sent_to<refused>(1).empty());
    test.request(fixture::ask(13));
    CHECK(test.sent_to<refused>(1).size() == 1);
}

TEST_CASE("sender: an early request that was renewed is served when its session opens") {
    fixture test;
    test.request(fixture::ask(7));
    auto again = fixture::ask(7);
    again.renewal = true;
    test.request(again);
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    CHECK(test.puts().size() == 1);
    CHECK(test.answers().empty());
}

TEST_CASE(
    "sender: a receiver that a dead session may have served is answered in doubt, never gone") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    test.request(fixture::ask(7));
    REQUIRE(test.puts().size() == 1);
    test.die(opened);

    const auto told = test.observer.received<session_finished>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].state == session_state::error);
    CHECK(contains(describe(told[0].error), "rid 7: its tx_session on ctx/0 died"));
    CHECK(test.sent_to<cancel_session>(1).size() == 1); // so that the receiver does not wait
    REQUIRE(test.sent_to<kv_agent_result>(1).size() == 1);
    CHECK(test.sent_to<kv_agent_result>(1)[0].result == agent_result::in_doubt);

    test.cancel(7);                // the receiver gives up
    test.request(fixture::ask(7)); // a replay
    test.vs.advance(500s);         // longer than every deadline and lease
    CHECK(test.answers().empty());
    CHECK(test.observer.received<session_released>().empty());
    CHECK(test.observer.received<session_finished>().size() == 1);

    test.request(fixture::ask(7, {12})); // nothing can be in flight for this attempt
    test.cancel(7, {13});
    REQUIRE(test.answers().size() == 2);
    CHECK(test.answers()[0].header.attempt == attempt{12});
    CHECK(test.answers()[1].header.attempt == attempt{13});
    CHECK(test.open(7).code() == errc::duplicate);
    CHECK(test.open(8).ok());
}

TEST_CASE("sender: a session that died is listed with what its pages wait for, and ends no stop") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.request(fixture::ask(7));
    test.die(opened);
    auto list = test.vs.ask_and_run<session_list>(test.sender, list_sessions{});
    REQUIRE(list.ok());
    REQUIRE(list.value().sessions.size() == 1);
    const auto& status = list.value().sessions[0];
    CHECK(status.state == session_state::error);
    CHECK(contains(status.waits_for, "the end of the process"));
    CHECK(status.peers.at(rank_id{0}) == exposure::in_doubt);
    auto stopped = test.vs.ask_and_run<void>(
        test.sender, cancel_request{make_error(errc::stopped, "ctx/0 is stopping")});
    REQUIRE(stopped.failed());
    CHECK(contains(text_of(stopped.error()), "rid 7"));
}

TEST_CASE("sender: a session that dies after its outcome changes none, but leaves doubt (I3)") {
    fixture test;
    auto opened = test.open(7);
    REQUIRE(opened.ok());
    test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
    test.request(fixture::ask(7));
    test.vs.tell_and_run(opened.value().session, cancel_request{make_error(errc::cancelled, "no")});
    REQUIRE(test.sent_to<cancel_session>(1).size() == 1);
    test.die(opened);
    const auto told = test.observer.received<session_finished>();
    REQUIRE(told.size() == 1);
    CHECK(told[0].state == session_state::cancelled);
    CHECK(test.sent_to<cancel_session>(1).size() == 1);
    REQUIRE(test.sent_to<kv_agent_result>(1).size() == 1);
    CHECK(test.sent_to<kv_agent_result>(1)[0].result == agent_result::in_doubt);
    CHECK(test.observer.received<session_released>().empty());
}

TEST_CASE(
    "sender: an attempt whose transfer is in doubt is never answered `gone`, which would be taken "
    "for proof, however late and over whichever link it asks (H51)") {
    fixture test;
    auto session = test.open(7);
    test.request(fixture::ask(7));
    test.vs.tell_and_run(session.value().session, send_slice{fixture::slice()});
    REQUIRE(test.puts().size() == 1);
    transfer_done done{test.puts()[0].id, agent_result::in_doubt, 0, {}, {}, {}};
    done.error = make_error(errc::transfer_in_doubt, "the link broke");
    test.vs.tell_and_run(session.value().session, done);
    test.go_down(1);
    test.come_up(1);
    const auto before = test.sent_to<kv_agent_result>(1).size();
    test.cancel(7);
    CHECK(test.answers().empty());
    const auto reports = test.sent_to<kv_agent_result>(1);
    REQUIRE(reports.size() == before + 1);
    CHECK(reports.back().result == agent_result::in_doubt);
    CHECK(reports.back().header.attempt == attempt{11});
    test.cancel(7, {12}); // never served: nothing of it moves
    CHECK(test.answers().size() == 1);
}

TEST_CASE(
    "sender: who asks again for what was served hears so at once, its reports were lost with its "
    "link; another attempt of the rid begins anew") {
    fixture test;
    auto session = test.open(7);
    test.request(fixture::ask(7));
    test.vs.tell_and_run(session.value().session, send_slice{fixture::slice()});
    REQUIRE(test.puts().size() == 1);
    test.vs.tell_and_run(session.value().session,
                         transfer_done{test.puts()[0].id, agent_result::success, 32, {}, {}, {}});
    test.go_down(1);
    test.come_up(1);
    test.request(fixture::ask(7));
    REQUIRE(test.answers().size() == 1);
    CHECK(contains(test.answers()[0].reason.text, "its reports went with the link"));
    test.request(fixture::ask(7, {12}));
    CHECK(test.answers().size() == 1); // it waits for its session
    test.open(7);
    CHECK(test.puts().size() == 1);
}

TEST_CASE("sender: of a session that has ended nothing stays in memory, however it ended") {
    fixture test;
    auto opened = test.vs.ask_and_run<tx_opened>(
        test.sender, open_tx{{7}, aux_mode::none, test.observer.handle(), 60s});
    REQUIRE(opened.ok());
    const watched_actor session{opened.value().session};
    SUBCASE("with success") {
        test.request(fixture::ask(7));
        test.vs.tell_and_run(opened.value().session, send_slice{fixture::slice()});
        REQUIRE(test.puts().size() == 1);
        test.vs.tell_and_run(
            opened.value().session,
            transfer_done{test.puts()[0].id, agent_result::success, 64, {}, {}, {}});
        test.fabric.forget();
    }
    SUBCASE("cancelled by its host") {
        test.vs.tell_and_run(opened.value().session, cancel_request{});
    }
    SUBCASE("cancelled by its receiver") {
        test.request(fixture::ask(7));
        test.cancel(7);
    }
    REQUIRE(test.observer.received<session_released>().size() == 1);
    opened = {};
    test.vs.run();
    CHECK(session.references() == 0);
}

TEST_CASE("sender: its sessions end with it") {
    fixture test;
    REQUIRE(test.open(7).ok());
    REQUIRE(test.open(8).ok());
    caf::anon_send_exit(test.sender, caf::exit_reason::unknown);
    test.vs.run();
    const auto outcomes = test.observer.received<session_finished>();
    REQUIRE(outcomes.size() == 2);
    for (const auto& outcome : outcomes)
        CHECK(contains(describe(outcome.error), "the sender of ctx/0 died"));
    CHECK(test.observer.received<session_released>().size() == 2);
}

TEST_CASE("sender: an event of a peer reaches the sessions that it asked, and no other") {
    fixture test;
    test.come_up(2);
    for (std::uint64_t request = 1; request <= 30; ++request) {
        REQUIRE(test.open(request).ok());
        test.request(fixture::ask(request));
    }
    REQUIRE(test.open(31).ok());
    test.request(fixture::ask(31, {12}, 2));
    test.request(fixture::ask(32)); // its host has not opened it
    test.request(fixture::ask(33, {12}, 2));
    const auto lost = [](std::uint64_t process) {
        return peer_lost{{process}, make_error(errc::link_lost, "no route")};
    };
    CHECK(test.vs.disturbed_by(test.sender, lost(2)) == 1);
    CHECK(test.vs.disturbed_by(test.sender, process_gone{{2}}) == 1);
    CHECK(test.observer.received<session_finished>().size() == 1);
    CHECK(test.vs.ask_and_run<session_list>(test.sender, list_sessions{}).value().unopened.size()
          == 1);
    CHECK(test.vs.disturbed_by(test.sender, lost(1)) == 30);
    CHECK(test.vs.disturbed_by(test.sender, process_gone{{1}}) == 30);
    CHECK(test.observer.received<session_finished>().size() == 31);
    CHECK(test.vs.ask_and_run<session_list>(test.sender, list_sessions{}).value().unopened.empty());
}
