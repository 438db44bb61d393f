// SPDX-License-Identifier: Apache-2.0
// What actors with a loop are told goes without CAF's envelope: nothing else about it differs.
#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/links.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/pass_on.hpp"
#include "tests/support/real_system.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/loop/short_lived.hpp"

#include <caf/scoped_actor.hpp>
#include <caf/sec.hpp>
#include <caf/typed_response_promise.hpp>
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 20s;
constexpr std::uint64_t throws = 13, ends = 14, stopped = 99;

/// How the listener answers a question.
enum class way { at_once, with_an_error, by_a_promise, by_another, by_throwing };

/// What the listener has heard, in order.
struct heard {
    std::vector<std::uint64_t> all;
    int without_envelope = 0;
    int ended = 0;
    way answers = way::at_once;
    /// Answers in the listener's place.
    copy_actor next = {};
};

struct listener_state {
    static inline constexpr const char* name = "listener";

    listener_state(copy_actor::pointer self, heard* log) : self_(self), log_(log) {}
    ~listener_state() { ++log_->ended; }

    copy_actor::behavior_type make_behavior() {
        return {handle(this, &listener_state::on_copy), handle(this, &listener_state::on_cancel),
                handle(this, &listener_state::on_stop)};
    }

    void on_copy(const start_copy&) {}
    void on_cancel(const cancel_transfer& message) {
        log_->without_envelope += self_->current_mailbox_element()->payload.empty();
        log_->all.push_back(message.id.value);
        if (message.id.value == throws)
            throw std::runtime_error{"thirteen"};
        if (message.id.value == ends)
            self_->quit();
    }
    caf::result<void> on_stop(const stop_io& message) {
        log_->without_envelope += self_->current_mailbox_element()->payload.empty();
        log_->all.push_back(stopped);
        switch (log_->answers) {
        case way::at_once:
            break;
        case way::with_an_error:
            return make_error(errc::unsupported, "not here");
        case way::by_a_promise: // the first two, when both are there
            if (promises_.size() == 2)
                break;
            promises_.push_back(self_->make_response_promise<void>());
            if (promises_.size() == 2)
                for (auto& promise : promises_)
                    promise.deliver();
            return promises_.back();
        case way::by_another:
            return pass_on(self_, log_->next, stop_io{message});
        case way::by_throwing:
            throw std::runtime_error{"a question"};
        }
        return {};
    }

private:
    copy_actor::pointer self_;
    std::vector<caf::typed_response_promise<void>> promises_;
    heard* log_;
};

/// Runs a script when it is told to, on the listener's loop.
struct speaker_state {
    static inline constexpr const char* name = "speaker";
    using script = std::function<void(completion_actor::pointer)>;

    speaker_state(completion_actor::pointer self, script says)
        : self_(self), says_(std::move(says)) {}

    completion_actor::behavior_type make_behavior() {
        return {handle(this, &speaker_state::on_done)};
    }
    void on_done(const transfer_done&) { says_(self_); }

private:
    completion_actor::pointer self_;
    script says_;
};

struct fixture {
    testing::real_system real;
    std::unique_ptr<io_loop> loop = make_loop(real.system());
    heard log;
    copy_actor listener =
        spawn_at<copy_actor, listener_state>(real.system(), placement{loop.get()}, &log);

    ~fixture() {
        listener = copy_actor{};
        real.system().await_all_actors_done();
    }

    static std::unique_ptr<io_loop> make_loop(caf::actor_system& system) {
        auto made = io_loop::make(system);
        REQUIRE_MESSAGE(made, describe(made.error()));
        return std::move(*made);
    }

    void tell_listener(completion_actor::pointer self, std::uint64_t number) const {
        tell(self, listener, cancel_transfer{{number}});
    }

    /// Runs the script; it ends with the answer to a question that it asks the listener last.
    void run(const speaker_state::script& says, caf::error* answer = nullptr) {
        std::promise<void> over;
        auto speaker = spawn_at<completion_actor, speaker_state>(
            real.system(), placement{loop.get()}, [&](completion_actor::pointer self) {
                says(self);
                ask(self, listener, stop_io{})
                    .then([&over] { over.set_value(); },
                          [&over, answer](const caf::error& why) {
                              if (answer)
                                  *answer = why;
                              over.set_value();
                          });
            });
        tell_from_outside(speaker, transfer_done{});
        REQUIRE(over.get_future().wait_for(patience) == std::future_status::ready);
    }
};

} // namespace

TEST_CASE_FIXTURE(fixture, "errand: what is told and what is asked arrives in the order it left") {
    std::vector<std::uint64_t> expected;
    run([&](completion_actor::pointer self) {
        for (std::uint64_t number = 100; number < 160; number += 2) {
            tell_listener(self, number);
            ask(self, listener, stop_io{}).then([] {}, [](const caf::error&) {});
            tell_listener(self, number + 1);
            expected.insert(expected.end(), {number, stopped, number + 1});
        }
    });
    expected.push_back(stopped);
    CHECK(log.all == expected);
    CHECK(log.without_envelope == static_cast<int>(expected.size()));
}

TEST_CASE_FIXTURE(fixture, "errand: the first message to an actor may be one") {
    heard second;
    auto fresh =
        spawn_at<copy_actor, listener_state>(real.system(), placement{loop.get()}, &second);
    run([&](completion_actor::pointer self) { tell(self, fresh, cancel_transfer{{7}}); });
    CHECK(second.all == std::vector<std::uint64_t>{7});
    CHECK(second.without_envelope == 1);
}

TEST_CASE_FIXTURE(fixture, "errand: so may the first message to the first actor of a kind") {
    struct newcomer_state : listener_state {
        using listener_state::listener_state;
        copy_actor::behavior_type make_behavior() {
            return {handle(this, &newcomer_state::on_copy),
                    handle(this, &newcomer_state::on_cancel),
                    handle(this, &newcomer_state::on_stop)};
        }
    };
    heard first, second;
    for (auto* log : {&first, &second}) {
        auto fresh = spawn_short_lived<copy_actor, newcomer_state>(real.system(),
                                                                   placement{loop.get()}, log);
        run([&](completion_actor::pointer self) { tell(self, fresh, cancel_transfer{{7}}); });
        tell_from_outside(fresh, cancel_transfer{{8}});
        run([](completion_actor::pointer) {});
        CHECK(log->all == std::vector<std::uint64_t>{7, 8});
        CHECK(log->without_envelope == 2);
    }
}

TEST_CASE_FIXTURE(fixture, "errand: a handler that throws ends neither its actor nor the loop") {
    run([](completion_actor::pointer) {});
    log = {};
    run([this](completion_actor::pointer self) {
        tell_listener(self, throws);
        tell_listener(self, 1);
    });
    CHECK(log.all == std::vector<std::uint64_t>{throws, 1, stopped});
    CHECK(log.ended == 0);
}

TEST_CASE_FIXTURE(fixture,
                  "errand: after its end an actor hears nothing, and questions are answered") {
    run([](completion_actor::pointer) {});
    log = {};
    caf::error answer;
    run(
        [this](completion_actor::pointer self) {
            tell_listener(self, ends);
            tell_listener(self, 1);
        },
        &answer);
    CHECK(log.all == std::vector<std::uint64_t>{ends});
    CHECK(log.ended == 1);
    CHECK(answer == caf::sec::request_receiver_down);
}

TEST_CASE_FIXTURE(fixture, "errand: what another thread tells and asks arrives in the order it "
                           "left, and only its questions have an envelope") {
    run([](completion_actor::pointer) {});
    log = {};
    caf::scoped_actor self{real.system()};
    tell_from_outside(listener, cancel_transfer{{5}});
    auto asked = self->request(listener, patience, stop_io{});
    tell_from_outside(listener, cancel_transfer{{6}});
    bool answered = false;
    asked.receive([&answered] { answered = true; }, [](const caf::error&) {});
    CHECK(answered);
    run([](completion_actor::pointer) {});
    CHECK(log.all == std::vector<std::uint64_t>{5, stopped, 6, stopped});
    CHECK(log.without_envelope == 3);
}

TEST_CASE_FIXTURE(fixture, "errand: an actor that has heard bare messages alone understands CAF's "
                           "when one comes") {
    run([](completion_actor::pointer) {});
    heard second;
    auto fresh = spawn_short_lived<copy_actor, listener_state>(real.system(), placement{loop.get()},
                                                               &second);
    tell_from_outside(fresh, cancel_transfer{{7}});
    caf::scoped_actor self{real.system()};
    bool answered = false;
    self->request(fresh, patience, stop_io{})
        .receive([&answered] { answered = true; }, [](const caf::error&) {});
    CHECK(answered);
    tell_from_outside(fresh, cancel_transfer{{8}});
    run([](completion_actor::pointer) {});
    CHECK(second.all == std::vector<std::uint64_t>{7, stopped, 8});
    CHECK(second.without_envelope == 2);
}

TEST_CASE_FIXTURE(fixture, "errand: what CAF has of a short-lived actor that has ended serves the "
                           "next one, which has nothing else of it") {
    run([](completion_actor::pointer) {});
    heard first;
    auto one =
        spawn_short_lived<copy_actor, listener_state>(real.system(), placement{loop.get()}, &first);
    const auto former = one.id();
    const auto* const place = caf::actor_cast<caf::abstract_actor*>(one);
    tell_from_outside(one, cancel_transfer{{1}});
    tell_from_outside(one, cancel_transfer{{ends}});
    run([](completion_actor::pointer) {});
    CHECK(first.ended == 1);

    heard meanwhile; // somebody knows the first one still
    auto other = spawn_short_lived<copy_actor, listener_state>(real.system(), placement{loop.get()},
                                                               &meanwhile);
    CHECK(caf::actor_cast<caf::abstract_actor*>(other) != place);
    one = copy_actor{};

    heard second;
    auto next = spawn_short_lived<copy_actor, listener_state>(real.system(), placement{loop.get()},
                                                              &second);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(caf::actor_cast<caf::abstract_actor*>(next) == place);
#endif
    CHECK(next.id() != former);
    tell_from_outside(next, cancel_transfer{{2}});
    caf::scoped_actor self{real.system()};
    self->monitor(next);
    bool answered = false; // through the mailbox that the end had closed
    self->request(next, patience, stop_io{})
        .receive([&answered] { answered = true; }, [](const caf::error&) {});
    CHECK(answered);
    tell_from_outside(next, cancel_transfer{{ends}});
    bool down = false;
    self->receive([&](const caf::down_msg& end) { down = end.source == next.address(); });
    CHECK(down);
    run([](completion_actor::pointer) {});
    CHECK(second.all == std::vector<std::uint64_t>{2, stopped, ends});
    CHECK(second.ended == 1);
    CHECK(first.all == std::vector<std::uint64_t>{1, ends});
    CHECK(first.ended == 1);
    CHECK(meanwhile.all.empty());
}

TEST_CASE_FIXTURE(fixture, "errand: of a promise that is asked for over a bare message the answer "
                           "comes back") {
    run([](completion_actor::pointer) {});
    heard second;
    second.answers = way::by_a_promise;
    auto fresh = spawn_short_lived<copy_actor, listener_state>(real.system(), placement{loop.get()},
                                                               &second);
    std::atomic<int> answers{0};
    run([&](completion_actor::pointer self) {
        for (int count = 0; count < 2; ++count)
            ask(self, fresh, stop_io{}).then([&answers] { ++answers; }, [](const caf::error&) {});
    });
    run([](completion_actor::pointer) {}); // behind the answers
    CHECK(answers == 2);
}

TEST_CASE_FIXTURE(fixture, "errand: what leaves the rank goes first, and keeps its order") {
    static_assert(leaves_rank<send_frame> && leaves_rank<send_message>);
    static_assert(!leaves_rank<cancel_transfer>);
    struct reader final : errand_taker {
        void take(errand& what, caf::execution_unit*) override {
            seen.push_back(*static_cast<int*>(what.message));
        }
        std::vector<int> seen;
    } reads;
    std::vector<int> numbers{1, 2, 3, 4, 5};
    std::promise<void> over;
    loop->post([&] {
        for (auto& number : numbers) {
            const auto leaves = number == 3 || number == 4;
            auto one = std::make_unique<errand>(caf::invalid_type_id, &number, leaves);
            one->taker = &reads;
            loop->later(std::move(one));
        }
    });
    loop->post([&over] { over.set_value(); });
    REQUIRE(over.get_future().wait_for(patience) == std::future_status::ready);
    run([](completion_actor::pointer) {}); // behind them
    CHECK(reads.seen == std::vector<int>{3, 4, 1, 2, 5});
}

TEST_CASE_FIXTURE(fixture, "errand: an actor that had ended before a promise was made to it is not "
                           "run again, whatever is left in its mailbox") {
    log.answers = way::by_a_promise;
    auto speaker = spawn_at<completion_actor, speaker_state>(
        real.system(), placement{loop.get()}, [this](completion_actor::pointer self) {
            ask(self, listener, stop_io{}).then([] {}, [](const caf::error&) {});
            caf::anon_send_exit(self->address(), caf::exit_reason::user_shutdown);
            self->quit();
        });
    tell_from_outside(speaker, transfer_done{});
    speaker = completion_actor{};
    run([](completion_actor::pointer) {}); // the second promise: both are kept
    CHECK(log.all == std::vector<std::uint64_t>{stopped, stopped});
}

TEST_CASE("errand: a home that has ended takes none, and a question to its actors is answered") {
    fixture test;
    test.run([](completion_actor::pointer) {});
    caf::scoped_actor self{test.real.system()};
    self->send_exit(test.listener, caf::exit_reason::user_shutdown);
    self->wait_for(test.listener);
    test.loop->stop();
    tell_from_outside(test.listener, cancel_transfer{{1}});
    caf::error answer;
    self->request(test.listener, patience, stop_io{})
        .receive([] {}, [&answer](caf::error& why) { answer = std::move(why); });
    CHECK(answer == caf::sec::request_receiver_down);
    auto refused =
        test.loop->door()->hand_in(std::make_unique<errand>(caf::invalid_type_id, nullptr));
    CHECK(refused != nullptr);
    CHECK(test.log.all == std::vector<std::uint64_t>{stopped});
}

TEST_CASE_FIXTURE(fixture, "errand: a trace shows where a message left and where it arrived") {
    run([](completion_actor::pointer) {});
    trace::snapshot seen;
    run([this](completion_actor::pointer self) { tell_listener(self, 1); });
    run([&seen](completion_actor::pointer) { seen = trace::this_thread(); });
    const auto find = [&seen](trace::instant what) {
        return std::find_if(seen.events.rbegin(), seen.events.rend(), [what](const auto& x) {
            return x.what == what && std::string_view{x.message} == "cancel_transfer";
        });
    };
    const auto sent = find(trace::instant::sent);
    const auto taken = find(trace::instant::dequeued);
    const auto done = find(trace::instant::done);
    REQUIRE(sent != seen.events.rend());
    REQUIRE(taken != seen.events.rend());
    REQUIRE(done != seen.events.rend());
    CHECK(std::string_view{sent->actor} == "speaker");
    CHECK(std::string_view{taken->actor} == "listener");
    CHECK(sent->key != 0);
    CHECK(sent->key == taken->key);
    CHECK(taken->key == done->key);
    CHECK(sent->peer_id == taken->actor_id);
}

TEST_CASE_FIXTURE(fixture, "errand: a question has one answer, however it is given") {
    run([](completion_actor::pointer) {});
    heard other;
    log = {};
    log.next = spawn_at<copy_actor, listener_state>(real.system(), placement{loop.get()}, &other);
    const auto ask_by = [this](way answers, int times = 1) {
        log.answers = answers;
        std::vector<caf::error> result;
        std::promise<void> over;
        const auto told = [&](caf::error why) {
            result.push_back(std::move(why));
            if (result.size() == static_cast<std::size_t>(times))
                over.set_value();
        };
        auto speaker = spawn_at<completion_actor, speaker_state>(
            real.system(), placement{loop.get()}, [&](completion_actor::pointer self) {
                for (int count = 0; count < times; ++count)
                    ask(self, listener, stop_io{})
                        .then([&told] { told({}); }, [&told](const caf::error& why) { told(why); });
            });
        tell_from_outside(speaker, transfer_done{});
        REQUIRE(over.get_future().wait_for(patience) == std::future_status::ready);
        return result;
    };
    CHECK_FALSE(ask_by(way::at_once).front());
    CHECK(ask_by(way::with_an_error).front() == errc::unsupported);
    CHECK(ask_by(way::by_throwing).front() == errc::handler_failed);
    const auto promised = ask_by(way::by_a_promise, 2);
    CHECK_FALSE(promised[0]);
    CHECK_FALSE(promised[1]);
    CHECK(log.without_envelope == 5);
    CHECK_FALSE(ask_by(way::by_another).front());
    CHECK(other.all == std::vector<std::uint64_t>{stopped});
    CHECK(other.without_envelope == 1);
    other.answers = way::with_an_error;
    CHECK(ask_by(way::by_another).front() == errc::unsupported);
    log.next = copy_actor{};
}

TEST_CASE_FIXTURE(fixture, "errand: whoever has ended hears no answer, and nothing else") {
    run([](completion_actor::pointer) {});
    for (const auto answers : {way::at_once, way::by_a_promise}) {
        log = {};
        log.answers = answers;
        int runs = 0;
        bool answered = false;
        auto speaker = spawn_at<completion_actor, speaker_state>(
            real.system(), placement{loop.get()}, [&](completion_actor::pointer self) {
                ++runs;
                for (int count = 0; count < 2; ++count)
                    ask(self, listener, stop_io{})
                        .then([&answered] { answered = true; },
                              [&answered](const caf::error&) { answered = true; });
                self->quit();
            });
        tell_from_outside(speaker, transfer_done{});
        run([](completion_actor::pointer) {});
        run([&speaker](completion_actor::pointer self) { tell(self, speaker, transfer_done{}); });
        run([](completion_actor::pointer) {}); // its answer is behind all that
        CHECK_FALSE(answered);
        CHECK(runs == 1);
    }
}

TEST_CASE_FIXTURE(fixture, "errand: mail for an actor whose home is gone is dropped") {
    run([](completion_actor::pointer) {});
    run([this](completion_actor::pointer self) { tell_listener(self, ends); });
    loop.reset();
    std::vector<std::byte> elsewhere(sizeof(io_loop), std::byte{0xee}); // perhaps where it was
    tell_from_outside(listener, cancel_transfer{{1}});
    auto other = make_loop(real.system());
    std::promise<void> told;
    other->post([&] {
        tell_from_outside(listener, cancel_transfer{{2}});
        told.set_value();
    });
    REQUIRE(told.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(log.all == std::vector<std::uint64_t>{stopped, ends});
}
