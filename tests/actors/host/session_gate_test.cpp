// SPDX-License-Identifier: Apache-2.0
// The promises behind a host's handles: each kept once, whatever ends the session.
#include "actors/host/session_gate.hpp"
#include "actors/shared/death_notice.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <stdexcept>
#include <string>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

template <class Future>
bool resolved(const Future& x) {
    return x.wait_for(0s) == std::future_status::ready;
}

/// Keeps callbacks instead of running them.
std::function<void(run_callback)> collect(std::vector<run_callback>& into) {
    return [&into](run_callback call) { into.push_back(std::move(call)); };
}

/// A device whose events happen when the test says so.
class event_device {
public:
    explicit event_device(virtual_system& vs)
        : handle_(vs.track(vs.system().spawn(
            [notes = notes_](device_actor::pointer self) -> device_actor::behavior_type {
                return {
                    [](const start_copy&) {},
                    [notes](const cancel_transfer&) { // an actor answers in a handler only
                        auto promise = notes->answers.front();
                        notes->answers.erase(notes->answers.begin());
                        notes->next ? promise.deliver(notes->next) : promise.deliver();
                    },
                    [](const stop_io&) {},
                    [](const export_device_region&) { return device_region_exported{}; },
                    [](const pin_host_region&) {},
                    [](const map_peer_regions&) { return peer_regions_mapped{}; },
                    [](const unmap_region&) {},
                    [notes, self](const await_event& asked) -> caf::result<void> {
                        notes->asked.push_back(asked);
                        notes->answers.push_back(self->make_response_promise<void>());
                        return notes->answers.back();
                    },
                };
            }))) {}

    const device_actor& handle() const { return handle_; }
    const std::vector<await_event>& asked() const { return notes_->asked; }

    /// The oldest event that has not been answered happens, or cannot be looked at.
    void answer(const caf::error& problem = {}) {
        notes_->next = problem;
        caf::anon_send(handle_, cancel_transfer{});
    }

private:
    struct notes {
        std::vector<await_event> asked;
        std::vector<caf::typed_response_promise<void>> answers;
        caf::error next;
    };
    std::shared_ptr<notes> notes_ = std::make_shared<notes>();
    device_actor handle_;
};

struct fixture {
    virtual_system vs;
    stub<transfer_worker_actor> worker{vs};
    stub<tx_session_actor> tx{vs};
    stub<rx_session_actor> rx{vs};
    event_device device{vs};
    std::vector<run_callback> callbacks;
    std::shared_ptr<session_promises> promises = std::make_shared<session_promises>();
    std::shared_future<session_finished> outcome = promises->outcome.future();
    std::shared_future<session_released> released = promises->released.future();
    session_gate_actor gate;

    explicit fixture(side role = side::context) {
        worker.answer<open_tx>(
            [handle = tx.handle()](const open_tx&) { return tx_opened{handle}; });
        worker.answer<open_rx>([handle = rx.handle()](const open_rx&) {
            return rx_opened{handle, {11}};
        });
        gate = make_gate({worker.handle(),
                          collect(callbacks),
                          role,
                          {7},
                          promises,
                          [](const session_finished&) {},
                          [](const session_released&) {},
                          {},
                          {},
                          {},
                          device.handle()});
    }

    /// As one does that was opened with open_tx::tell_death.
    void session_dies() {
        tell_of_death(
            *static_cast<caf::local_actor*>(caf::actor_cast<caf::abstract_actor*>(tx.handle())),
            gate);
        vs.run();
    }

    session_gate_actor make_gate(session_gate_state::dependencies with) {
        return vs.track(
            spawn_at<session_gate_actor, session_gate_state>(vs.system(), {}, std::move(with)));
    }

    template <class Message>
    void tell(Message message) {
        vs.tell_and_run(gate, std::move(message));
    }
    void open() { tell(open_tx{{7}, aux_mode::required, {}, 60s}); }

    static std::shared_future<piece_finished> promise(piece_promise& into) {
        into = std::make_shared<promised<piece_finished>>();
        return into->future();
    }
    std::shared_future<piece_finished> send() {
        host_send message;
        auto result = promise(message.done);
        tell(std::move(message));
        return result;
    }
    std::shared_future<piece_finished> send_aux() {
        host_send_aux message;
        auto result = promise(message.done);
        tell(std::move(message));
        return result;
    }

    /// A slice that may be asked for once the event has happened; null: at once.
    std::shared_future<piece_finished> receive(void* event) {
        host_receive message;
        message.events.wait_for = event;
        message.slice.prompt_tokens = ++slices;
        auto result = promise(message.done);
        tell(std::move(message));
        return result;
    }
    std::vector<std::uint32_t> handed_on() {
        std::vector<std::uint32_t> result;
        for (const auto& each : rx.received<receive_slice>())
            result.push_back(each.slice.prompt_tokens);
        return result;
    }
    std::uint32_t slices = 0;

    void piece_ends(std::uint32_t index, payload_kind kind = payload_kind::kv,
                    caf::error reason = {}) {
        tell(piece_finished{side::context, {7}, {}, kind, {index}, std::move(reason)});
    }
    void finishes(session_state state, caf::error reason = {}) {
        tell(session_finished{side::context, {7}, {}, state, std::move(reason), {}, {}});
    }
    void releases() { tell(session_released{side::context, {7}, {}}); }
    bool ended() { return vs.ask_and_run<session_status>(gate, query_status{}).failed(); }
};

} // namespace

TEST_CASE("session_gate: opens the session with itself as the observer, and hands on what was said "
          "before") {
    fixture test;
    caf::anon_send(test.gate, open_tx{{7}, aux_mode::none, {}, 60s});
    auto piece = test.send(); // sent before the worker has answered
    CHECK(test.worker.received<open_tx>().at(0).observer == test.gate);
    CHECK(test.tx.received<send_slice>().size() == 1);
    CHECK_FALSE(resolved(piece));
    test.piece_ends(0);
    REQUIRE(resolved(piece));
    CHECK_FALSE(piece.get().error);
}

TEST_CASE("session_gate: whoever opens the rank's sessions is asked without a detour; the worker "
          "only while nobody does") {
    fixture test;
    stub<sender_actor> sender{test.vs};
    sender.answer<open_tx>(
        [handle = test.tx.handle()](const open_tx&) { return tx_opened{handle}; });
    const auto openers = std::make_shared<session_openers>();
    const auto send_one = [&] {
        test.gate = test.make_gate({.worker = test.worker.handle(),
                                    .callbacks = collect(test.callbacks),
                                    .role = side::context,
                                    .request = {8},
                                    .promises = std::make_shared<session_promises>(),
                                    .on_outcome = {},
                                    .on_released = {},
                                    .openers = openers});
        test.open();
        test.send();
    };
    send_one();
    CHECK(test.worker.received<open_tx>().size() == 1);
    CHECK(test.tx.received<send_slice>().size() == 1);
    openers->sender = sender.handle();
    send_one();
    CHECK(test.worker.received<open_tx>().size() == 1);
    REQUIRE(sender.received<open_tx>().size() == 1);
    CHECK(sender.received<open_tx>()[0].observer == test.gate);
    CHECK(test.tx.received<send_slice>().size() == 2);
}

TEST_CASE("session_gate: a receiving session's pieces go to the rx_session") {
    fixture test{side::generation};
    test.tell(open_rx{{7}, aux_mode::none, "ctx:1", 0, {}, 60s});
    host_receive message;
    auto piece = fixture::promise(message.done);
    test.tell(std::move(message));
    CHECK(test.rx.received<receive_slice>().size() == 1);
    test.piece_ends(0);
    CHECK(resolved(piece));
}

TEST_CASE("session_gate: each piece resolves its own promise, in any order, once (H15)") {
    fixture test;
    test.open();
    auto first = test.send();
    auto second = test.send();
    auto aux = test.send_aux();
    test.piece_ends(1);
    CHECK_FALSE(resolved(first));
    REQUIRE(resolved(second));
    test.piece_ends(0, payload_kind::aux);
    CHECK(resolved(aux));
    test.piece_ends(1); // a second report: the promise is already kept
    test.piece_ends(9); // a piece that does not exist
    test.piece_ends(0, payload_kind::kv, make_error(errc::transfer_failed, "cut"));
    CHECK(code_of(first.get().error) == errc::transfer_failed);
    CHECK_FALSE(resolved(test.outcome));
}

TEST_CASE(
    "session_gate: outcome and release are two promises, each kept once, with one callback each") {
    fixture test;
    test.open();
    test.finishes(session_state::fully_transferred);
    REQUIRE(resolved(test.outcome));
    CHECK_FALSE(resolved(test.released));
    test.finishes(session_state::error, make_error(errc::handler_failed, "twice"));
    CHECK(test.outcome.get().state == session_state::fully_transferred);
    CHECK(test.callbacks.size() == 1);
    test.releases();
    CHECK(resolved(test.released));
    CHECK(test.callbacks.size() == 2);
    CHECK(test.ended());
}

TEST_CASE("session_gate: quick callbacks run in its handlers, in order, and one that throws ends "
          "nothing") {
    fixture test;
    std::vector<std::string> called;
    test.gate = test.make_gate(
        {.worker = test.worker.handle(),
         .callbacks = collect(test.callbacks),
         .request = {7},
         .promises = test.promises,
         .on_outcome =
             [&called, &test](const session_finished&) {
                 called.push_back(resolved(test.outcome) ? "outcome" : "early");
                 throw std::runtime_error{"the host's mistake"};
             },
         .on_released = [&called](const session_released&) { called.push_back("released"); },
         .on_ready = [&called](const session_ready&) { called.push_back("ready"); },
         .on_piece = [&called](const piece_finished&) { called.push_back("piece"); },
         .quick_callbacks = true});
    test.open();
    auto piece = test.send();
    test.tell(session_ready{{7}});
    test.piece_ends(0);
    test.finishes(session_state::kv_transferred);
    CHECK(called == std::vector<std::string>{"ready", "piece", "outcome"});
    test.releases();
    CHECK(called.back() == "released");
    CHECK(test.callbacks.empty());
    CHECK(test.ended());
}

TEST_CASE("session_gate: a session that cannot be opened has ended and lent nothing; pieces fail "
          "with its reason") {
    fixture test;
    test.worker.answer<open_tx>([](const open_tx&) -> caf::result<tx_opened> {
        return make_error(errc::missing_layout, "no pools");
    });
    caf::anon_send(test.gate, open_tx{{7}, aux_mode::none, {}, 60s});
    auto piece = test.send();
    auto expected = describe(make_error(errc::missing_layout, "no pools"));
    CHECK(describe(piece.get().error) == expected);
    CHECK(describe(test.outcome.get().error) == expected);
    CHECK(resolved(test.released));
}

TEST_CASE("session_gate: a worker that is gone fails the session as stopped") {
    fixture test;
    caf::anon_send_exit(test.worker.handle(), caf::exit_reason::kill);
    test.vs.run();
    test.open();
    REQUIRE(resolved(test.outcome));
    CHECK(code_of(test.outcome.get().error) == errc::stopped);
    CHECK(resolved(test.released));
}

TEST_CASE("session_gate: pieces that the session was never told of end with it") {
    fixture test;
    test.open();
    auto piece = test.send();
    auto aux = test.send_aux();
    test.finishes(session_state::cancelled, make_error(errc::cancelled, "the host cancelled"));
    CHECK(code_of(piece.get().error) == errc::cancelled);
    CHECK(code_of(aux.get().error) == errc::cancelled);
    auto late = test.send(); // the loan is open, but the session is over
    CHECK(code_of(late.get().error) == errc::gone);
    auto late_aux = test.send_aux();
    CHECK(code_of(late_aux.get().error) == errc::gone);
}

TEST_CASE(
    "session_gate: a rank that goes down under a session resolves the outcome and proves nothing") {
    fixture test;
    test.open();
    auto piece = test.send();
    caf::anon_send_exit(test.gate, caf::exit_reason::kill);
    test.vs.run();
    CHECK(code_of(piece.get().error) == errc::stopped);
    auto ended = test.outcome.get();
    CHECK(ended.state == session_state::error);
    CHECK(contains(text_of(ended.error), "the worker ended before rid 7"));
    test.promises.reset();
    REQUIRE(resolved(test.released));
    CHECK_THROWS_AS(test.released.get(), std::future_error); // a broken promise: no proof
}

TEST_CASE("session_gate: one aux record per session; a failed one may be given again") {
    fixture test;
    test.open();
    auto first = test.send_aux();
    auto second = test.send_aux();
    CHECK(code_of(second.get().error) == errc::duplicate);
    CHECK_FALSE(resolved(first));
    test.piece_ends(0, payload_kind::aux, make_error(errc::limit_exceeded, "too large"));
    CHECK(code_of(first.get().error) == errc::limit_exceeded);
    auto third = test.send_aux();
    CHECK_FALSE(resolved(third));
    CHECK(test.tx.received<send_aux>().size() == 2);
}

TEST_CASE(
    "session_gate: cancel reaches the session, also when it was said before the session was open") {
    fixture test;
    caf::anon_send(test.gate, open_tx{{7}, aux_mode::none, {}, 60s});
    test.tell(cancel_request{make_error(errc::cancelled, "the host cancelled")});
    CHECK(test.tx.received<cancel_request>().size() == 1);
    test.tell(cancel_request{make_error(errc::cancelled, "again")});
    CHECK(test.tx.received<cancel_request>().size() == 2);
}

TEST_CASE("session_gate: status is the session's; before it is open the gate's own") {
    fixture test;
    test.tx.answer<query_status>([](const query_status&) {
        session_status result;
        result.waits_for = "the host";
        return result;
    });
    auto early = test.vs.ask_and_run<session_status>(test.gate, query_status{});
    REQUIRE(early.ok());
    CHECK(early.value().waits_for == "the worker");
    test.open();
    auto now = test.vs.ask_and_run<session_status>(test.gate, query_status{});
    REQUIRE(now.ok());
    CHECK(now.value().waits_for == "the host");
}

TEST_CASE("session_gate: the host is told that every receiver has asked") {
    auto promises = std::make_shared<session_promises>();
    auto told = std::make_shared<int>(0);
    fixture test;
    auto gate = test.vs.track(spawn_at<session_gate_actor, session_gate_state>(
        test.vs.system(), {},
        session_gate_state::dependencies{test.worker.handle(),
                                         collect(test.callbacks),
                                         side::context,
                                         {7},
                                         promises,
                                         {},
                                         {},
                                         [told](const session_ready&) { ++*told; }}));
    test.vs.tell_and_run(gate, session_ready{{7}});
    for (const auto& run : test.callbacks)
        run.callback();
    CHECK(*told == 1);
}

TEST_CASE("session_gate: a session whose actor has ended still has a status") {
    fixture test;
    test.open();
    caf::anon_send_exit(test.tx.handle(), caf::exit_reason::unknown);
    test.vs.run();
    auto now = test.vs.ask_and_run<session_status>(test.gate, query_status{});
    REQUIRE(now.ok());
    CHECK(now.value().state == session_state::error);
    CHECK(contains(now.value().waits_for, "proof that nobody touches its pages"));
}

TEST_CASE(
    "session_gate: a session that dies with everybody who would tell of it still ends for its "
    "host") {
    fixture test;
    test.open();
    auto piece = test.send();
    REQUIRE(test.worker.received<open_tx>().size() == 1);
    CHECK(test.worker.received<open_tx>()[0].tell_death);
    SUBCASE("nobody tells") {
        test.session_dies();
        REQUIRE(resolved(test.outcome));
        const auto outcome = test.outcome.get();
        CHECK(code_of(outcome.error) == errc::handler_failed);
        CHECK(contains(text_of(outcome.error), "rid 7: its session died"));
    }
    SUBCASE("it had ended before") {
        test.finishes(session_state::kv_transferred);
        test.session_dies();
        CHECK_FALSE(test.outcome.get().error);
    }
    CHECK(resolved(piece));
    CHECK_FALSE(resolved(test.released)); // nothing is proven
}

// -- received slices with events ------------------------------------------------------------------

namespace {

struct receiving : fixture {
    receiving() : fixture(side::generation) {
        tell(open_rx{{7}, aux_mode::none, "ctx:1", 0, {}, 60s});
    }
    void answer(const caf::error& problem = {}) {
        device.answer(problem);
        vs.run();
    }
    int first = 1, second = 2;
};

} // namespace

TEST_CASE("session_gate: no writer is asked for a slice before its event has happened, and slices "
          "keep their order") {
    receiving test;
    auto before = test.receive(nullptr);
    auto waits = test.receive(&test.first);
    auto behind = test.receive(nullptr);
    auto last = test.receive(&test.second);
    CHECK(test.handed_on() == std::vector<std::uint32_t>{1});
    REQUIRE(test.device.asked().size() == 1);
    CHECK(test.device.asked()[0].event == &test.first);
    test.answer();
    CHECK(test.handed_on() == std::vector<std::uint32_t>{1, 2, 3});
    REQUIRE(test.device.asked().size() == 2);
    CHECK(test.device.asked()[1].event == &test.second);
    test.answer();
    CHECK(test.handed_on() == std::vector<std::uint32_t>{1, 2, 3, 4});
    CHECK_FALSE(resolved(waits));
    test.piece_ends(1);
    CHECK(resolved(waits));
}

TEST_CASE("session_gate: a session that ends before an event has happened is not released while "
          "the event is looked at") {
    receiving test;
    auto waits = test.receive(&test.first);
    CHECK_FALSE(test.device.asked().at(0).wanted.expired());
    test.finishes(session_state::cancelled, make_error(errc::cancelled, "enough"));
    CHECK(resolved(waits));
    CHECK(resolved(test.outcome));
    CHECK(test.device.asked().at(0).wanted.expired()); // which is how the device learns of it
    test.releases();
    CHECK_FALSE(resolved(test.released));
    test.answer(make_error(errc::cancelled, "nobody waits"));
    CHECK(resolved(test.released));
    CHECK(test.handed_on().empty());
    CHECK(test.rx.received<cancel_request>().empty());
}

TEST_CASE("session_gate: an event that cannot be looked at ends the session, and its slice is "
          "asked for by nobody") {
    receiving test;
    auto waits = test.receive(&test.first);
    auto behind = test.receive(nullptr);
    test.answer(make_error(errc::cuda_failed, "cudaErrorCapturedEvent"));
    CHECK(test.handed_on().empty());
    const auto cancelled = test.rx.received<cancel_request>();
    REQUIRE(cancelled.size() == 1);
    CHECK(code_of(cancelled[0].reason) == errc::cuda_failed);
    CHECK(contains(text_of(cancelled[0].reason), "rid 7: the event of a received slice"));
}
