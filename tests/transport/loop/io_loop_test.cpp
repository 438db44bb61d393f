// SPDX-License-Identifier: Apache-2.0
// What a loop promises to its actors, its pollers and whoever watches descriptors on it.
#include "messages/local/copies.hpp"
#include "messages/trace/handle.hpp"
#include "tests/support/open_resources.hpp"
#include "tests/support/real_system.hpp"
#include "tests/transport/loop/idle_cost.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/loop/system_call.hpp"

#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <future>
#include <stdexcept>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <thread>
#include <vector>

using namespace kvferry;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 20s;

std::unique_ptr<io_loop> make_loop(caf::actor_system& system, io_loop_options options = {}) {
    auto loop = io_loop::make(system, std::move(options));
    REQUIRE_MESSAGE(loop, describe(loop.error()));
    return std::move(*loop);
}

/// Runs a function on the loop and waits until it has.
template <class F>
auto on(io_loop& loop, F f) {
    using result = decltype(f());
    std::packaged_task<result()> task{std::move(f)};
    auto done = task.get_future();
    loop.post([&task] { task(); });
    REQUIRE(done.wait_for(patience) == std::future_status::ready);
    return done.get();
}

std::size_t threads_of_this_process() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator{"/proc/self/task"})
        ++count;
    return count;
}

/// Counts mail and where it was handled.
struct counter_state {
    static inline constexpr const char* name = "counter";

    counter_state(completion_actor::pointer self, io_loop* loop, std::promise<void>* all,
                  int expected)
        : self_(self), loop_(loop), all_(all), expected_(expected) {}

    completion_actor::behavior_type make_behavior() {
        return {handle(this, &counter_state::on_done)};
    }

    void on_done(const transfer_done& message) {
        elsewhere += loop_ && !loop_->on_thread();
        if (message.id.value == 13)
            throw std::runtime_error("thirteen");
        if (message.bytes > 0) // go on
            tell(self_, next ? next : completion_actor{self_},
                 transfer_done{{}, {}, message.bytes - 1, {}, {}, {}});
        if (++handled == expected_)
            all_->set_value();
    }

    int handled = 0;
    int elsewhere = 0;
    /// The actor that continues; null: this one.
    completion_actor next;

private:
    completion_actor::pointer self_;
    io_loop* loop_;
    std::promise<void>* all_;
    int expected_;
};

template <class Handle>
counter_state& state_of(const Handle& handle) {
    using type = caf::stateful_actor<counter_state, resident<completion_actor>>;
    return static_cast<type*>(caf::actor_cast<caf::abstract_actor*>(handle))->state;
}

struct scripted_poller : loop_poller {
    unique_fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    int refuse_to_arm = 0;
    std::atomic<int> arms{0};
    std::atomic<int> rounds{0};
    std::promise<void>* woken = nullptr;
    std::promise<void>* armed = nullptr;

    bool progress() override {
        ++rounds;
        eventfd_t value = 0;
        if (::eventfd_read(event.get(), &value) != 0)
            return false;
        if (woken)
            std::exchange(woken, nullptr)->set_value();
        return true;
    }
    int event_fd() override { return event.get(); }
    bool arm() override {
        ++arms;
        if (refuse_to_arm-- > 0)
            return false;
        if (armed)
            std::exchange(armed, nullptr)->set_value();
        return true;
    }
};

} // namespace

TEST_CASE("io_loop: handlers run on its thread, whoever sends, and no mail is lost") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    constexpr int senders = 3, each = 4000;
    std::promise<void> all;
    {
        auto actor = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                               loop.get(), &all, senders * each);
        std::vector<std::thread> threads;
        for (int i = 0; i < senders; ++i)
            threads.emplace_back([&actor] {
                for (int n = 0; n < each; ++n)
                    tell_from_outside(actor, transfer_done{});
            });
        for (auto& thread : threads)
            thread.join();
        REQUIRE(all.get_future().wait_for(patience) == std::future_status::ready);
        CHECK(on(*loop, [&] { return state_of(actor).elsewhere; }) == 0);
    }
    real.system().await_all_actors_done();
}

TEST_CASE("io_loop: mail between its own actors wakes nobody") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    std::promise<void> all;
    {
        auto actor = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                               loop.get(), &all, 1001);
        tell_from_outside(actor, transfer_done{{}, {}, 1000, {}, {}, {}});
        REQUIRE(all.get_future().wait_for(patience) == std::future_status::ready);
        CHECK(loop->statistics().wakes <= 2); // one for the launch, one for the first message
    }
    real.system().await_all_actors_done();
}

TEST_CASE("io_loop: a handler that throws ends neither the actor nor the loop") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    std::promise<void> all;
    {
        auto actor = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                               loop.get(), &all, 1);
        tell_from_outside(actor, transfer_done{transfer_id{13}, {}, 0, {}, {}, {}});
        tell_from_outside(actor, transfer_done{});
        CHECK(all.get_future().wait_for(patience) == std::future_status::ready);
    }
    real.system().await_all_actors_done();
}

TEST_CASE("io_loop: a poller is armed before every sleep, and a refusal means progress again") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    scripted_poller poller;
    std::promise<void> woken, armed;
    poller.refuse_to_arm = 3;
    poller.woken = &woken;
    poller.armed = &armed;
    REQUIRE_FALSE(on(*loop, [&] { return loop->add(poller); }));
    REQUIRE(armed.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(poller.arms == 4);
    CHECK(poller.rounds >= 4); // each refusal was followed by a round
    ::eventfd_write(poller.event.get(), 1);
    REQUIRE(woken.get_future().wait_for(patience) == std::future_status::ready);
    // The loop sleeps on the poller's descriptor: it must see the next event without any mail.
    std::promise<void> again;
    on(*loop, [&] {
        poller.woken = &again;
        return 0;
    });
    const auto wakes = loop->statistics().wakes;
    ::eventfd_write(poller.event.get(), 1);
    REQUIRE(again.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(loop->statistics().wakes == wakes);
    const auto rounds = on(*loop, [&] {
        loop->remove(poller);
        return poller.rounds.load();
    });
    on(*loop, [] { return 0; });
    CHECK(poller.rounds == rounds);
}

TEST_CASE("io_loop: a chain of messages between actors is not interrupted by a poll for each") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    scripted_poller poller;
    std::promise<void> all;
    {
        auto ping = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                              loop.get(), &all, 501);
        auto pong = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                              loop.get(), nullptr, -1);
        const auto before = on(*loop, [&] {
            REQUIRE_FALSE(loop->add(poller));
            state_of(ping).next = pong;
            state_of(pong).next = ping;
            tell_from_outside(ping, transfer_done{{}, {}, 1000, {}, {}, {}});
            return poller.rounds.load();
        });
        REQUIRE(all.get_future().wait_for(patience) == std::future_status::ready);
        CHECK(on(*loop,
                 [&] { // the actors hold each other's handles
                     state_of(ping).next = state_of(pong).next = completion_actor{};
                     return poller.rounds.load();
                 })
                  - before
              < 200);
    }
    on(*loop, [&] {
        loop->remove(poller);
        return 0;
    });
}

TEST_CASE(
    "io_loop: what a round of polling brings, or what another thread says meanwhile, is handled "
    "before the next round") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    struct bringing_poller final : scripted_poller {
        io_loop* loop = nullptr;
        bool elsewhere = false;
        int left = 8;
        std::vector<int> brought, handled;
        std::promise<void> all;

        bool progress() override {
            ++rounds;
            if (left == 0)
                return false;
            brought.push_back(rounds);
            const auto bring = [this, last = --left == 0] {
                loop->post([this, last] {
                    handled.push_back(rounds);
                    if (last)
                        all.set_value();
                });
            };
            if (elsewhere)
                std::thread{bring}.join();
            else
                bring();
            return true;
        }
    };
    for (bool elsewhere : {false, true}) {
        CAPTURE(elsewhere);
        bringing_poller poller;
        poller.loop = loop.get();
        poller.elsewhere = elsewhere;
        REQUIRE_FALSE(on(*loop, [&] { return loop->add(poller); }));
        REQUIRE(poller.all.get_future().wait_for(patience) == std::future_status::ready);
        on(*loop, [&] {
            loop->remove(poller);
            return 0;
        });
        CHECK(poller.handled == poller.brought);
    }
}

TEST_CASE("io_loop: pollers are asked once between mail and sleep") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    scripted_poller poller;
    REQUIRE_FALSE(on(*loop, [&] { return loop->add(poller); }));
    const auto mail_and_sleep = [&] {
        const auto before = on(*loop, [&] { return loop->statistics().sleeps; });
        const auto until = std::chrono::steady_clock::now() + patience;
        while (loop->statistics().sleeps == before && std::chrono::steady_clock::now() < until)
            std::this_thread::yield();
        REQUIRE(loop->statistics().sleeps != before);
    };
    mail_and_sleep();
    const auto rounds = poller.rounds.load();
    constexpr int mails = 50;
    for (int count = 0; count < mails; ++count)
        mail_and_sleep();
    CHECK(poller.rounds - rounds == mails);
    on(*loop, [&] {
        loop->remove(poller);
        return 0;
    });
}

TEST_CASE(
    "io_loop: actors with more mail than they get through keep pollers waiting, but not for ever") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    scripted_poller poller;
    constexpr int mail = 200'000;
    std::promise<void> all;
    {
        auto actor = spawn_at<completion_actor, counter_state>(real.system(), placement{loop.get()},
                                                               loop.get(), &all, mail);
        const auto before = on(*loop, [&] {
            REQUIRE_FALSE(loop->add(poller));
            for (int i = 0; i < mail; ++i)
                tell_from_outside(actor, transfer_done{});
            return poller.rounds.load();
        });
        REQUIRE(all.get_future().wait_for(patience) == std::future_status::ready);
        const auto polled = on(*loop, [&] { return poller.rounds.load(); }) - before;
        CHECK(polled >= 2);
        CHECK(polled < mail / 64 / 2);
    }
    on(*loop, [&] {
        loop->remove(poller);
        return 0;
    });
}

TEST_CASE("io_loop: a callback that throws is counted and its watch goes on") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    unique_fd event{::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::promise<void> second;
    int calls = 0;
    watch_handle watch;
    on(*loop, [&] {
        auto made = loop->watch(event.get(), EPOLLIN, [&](std::uint32_t ready) {
            CHECK(ready == EPOLLIN);
            if (++calls == 1)
                throw std::runtime_error("first call");
            watch.reset(); // called from inside the watch's own callback
            second.set_value();
        });
        REQUIRE(made);
        watch = std::move(*made);
        return 0;
    });
    REQUIRE(second.get_future().wait_for(patience) == std::future_status::ready);
    CHECK(loop->statistics().failures == 1);
    on(*loop, [] { return 0; });
    CHECK(calls == 2);
}

TEST_CASE("io_loop: a watch that was ended is not called, even if its event was due") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    // Two watches are ready at the same time. The first to run ends the other.
    unique_fd events[2] = {unique_fd{::eventfd(0, EFD_CLOEXEC)},
                           unique_fd{::eventfd(0, EFD_CLOEXEC)}};
    watch_handle watches[2];
    int calls = 0;
    std::promise<void> called;
    on(*loop, [&] {
        for (int i : {0, 1})
            watches[i] = std::move(*loop->watch(events[i].get(), EPOLLIN, [&](std::uint32_t) {
                if (++calls == 1)
                    called.set_value();
                watches[0].reset();
                watches[1].reset();
            }));
        for (auto& event : events) // both are ready before the loop looks
            ::eventfd_write(event.get(), 1);
        return 0;
    });
    REQUIRE(called.get_future().wait_for(patience) == std::future_status::ready);
    on(*loop, [] { return 0; });
    CHECK(calls == 1);
    auto refused = on(*loop, [&] { return loop->watch(-1, EPOLLIN, [](std::uint32_t) {}); });
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::system_call_failed);
}

TEST_CASE("io_loop: an idle loop costs less than one percent of a core") {
    testing::real_system real;
    auto loop = make_loop(real.system(), {"idle-loop", 100us});
    scripted_poller poller;
    on(*loop, [&] {
        REQUIRE_FALSE(loop->add(poller));
        return 0;
    });
    const auto cost = testing::measure_idle_cost(*loop);
    on(*loop, [&] {
        loop->remove(poller);
        return 0;
    });
    CHECK_MESSAGE(cost.below_one_percent(), cost.processor.count(), " ns of ", cost.wall.count());
}

TEST_CASE("io_loop: stop runs what was handed over before it, and later calls are dropped") {
    testing::real_system real;
    auto loop = make_loop(real.system());
    int ran = 0;
    for (int i = 0; i < 100; ++i)
        loop->post([&ran] { ++ran; });
    loop->stop();
    CHECK(ran == 100);
    auto held = std::make_shared<int>(0);
    loop->post([held, &ran] { ++ran; });
    CHECK(ran == 100);
    CHECK(held.use_count() == 1);
    loop->stop(); // a second stop has no effect
}

TEST_CASE("io_loop: its thread carries its name") {
    testing::real_system real;
    auto loop = make_loop(real.system(), {"named-loop", 0us});
    CHECK(on(*loop,
             [] {
                 char name[16] = {};
                 ::pthread_getname_np(::pthread_self(), name, sizeof name);
                 return std::string{name};
             })
          == "named-loop");
}

TEST_CASE("io_loop: a construction step that fails leaves no descriptor and no thread") {
    testing::real_system real;
    make_loop(real.system()); // CAF makes some resources at first use; now they exist
    const auto before = testing::open_resources();
    const auto threads = threads_of_this_process();
    for (const char* step : {"eventfd", "epoll_create1", "epoll_ctl", "thread"}) {
        CAPTURE(step);
        failing_call failure{step, EMFILE};
        auto loop = io_loop::make(real.system());
        REQUIRE_FALSE(loop);
        CHECK(code_of(loop.error()) == errc::system_call_failed);
        CHECK(describe(loop.error()).find("Too many open files") != std::string::npos);
        CHECK(testing::open_resources() == before);
        CHECK(threads_of_this_process() == threads);
    }
    make_loop(real.system());
    CHECK(testing::open_resources() == before);
    CHECK(threads_of_this_process() == threads);
}
