// SPDX-License-Identifier: Apache-2.0
// What other threads hand to a loop is heard in order, or comes back: also when the loop is gone.
#include "messages/type_ids.hpp"
#include "tests/support/real_system.hpp"
#include "transport/loop/held_call.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/loop/loop_inbox.hpp"

#include <doctest/doctest.h>

#include <deque>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <thread>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Of an actor that lets everything pass.
errand_ptr some_errand() {
    struct passing final : errand_taker {
        void take(errand&, caf::execution_unit*) override {}
    };
    static passing deaf;
    auto result = std::make_unique<errand>(caf::mailbox_element_ptr{});
    result->taker = &deaf;
    return result;
}

std::shared_ptr<loop_inbox> make_inbox() {
    auto made = loop_inbox::make();
    REQUIRE(made);
    return std::move(*made);
}

bool is_woken(const loop_inbox& inbox) {
    pollfd asked{inbox.wake_fd(), POLLIN, 0};
    return ::poll(&asked, 1, 0) == 1;
}

} // namespace

TEST_CASE("loop_inbox: what comes is taken in order, and wakes a sleeping loop once") {
    const auto inbox = make_inbox();
    CHECK_FALSE(inbox->has_mail());
    REQUIRE(inbox->may_sleep());
    auto first = some_errand(), second = some_errand();
    const auto *a = first.get(), *b = second.get();
    CHECK_FALSE(inbox->hand_in(std::move(first)));
    CHECK(is_woken(*inbox));
    CHECK_FALSE(inbox->hand_in(std::move(second)));
    CHECK(inbox->wakes() == 1);
    CHECK(inbox->has_mail());
    CHECK_FALSE(inbox->may_sleep());
    std::deque<loop_turn> taken;
    inbox->take(taken);
    REQUIRE(taken.size() == 2);
    const errand_ptr owned[] = {errand_ptr{taken[0].what}, errand_ptr{taken[1].what}};
    CHECK(owned[0].get() == a);
    CHECK(owned[1].get() == b);
    CHECK_FALSE(inbox->has_mail());
}

TEST_CASE(
    "loop_inbox: a loop ends when it was stopped and nothing is left; from then on what comes "
    "comes back") {
    const auto inbox = make_inbox();
    CHECK_FALSE(inbox->woken(true));
    CHECK_FALSE(inbox->hand_in(some_errand()));
    inbox->stop();
    CHECK_FALSE(inbox->may_sleep());
    CHECK_FALSE(inbox->woken(true));
    std::deque<loop_turn> taken;
    inbox->take(taken);
    REQUIRE(taken.size() == 1);
    const errand_ptr owned{taken.front().what};
    CHECK_FALSE(inbox->woken(false)); // it has something to do
    CHECK(inbox->woken(true));
    auto late = some_errand();
    auto* what = late.get();
    const auto back = inbox->hand_in(std::move(late));
    CHECK(back.get() == what);
    CHECK_FALSE(inbox->hand_in({nullptr, what}));
}

TEST_CASE("loop_inbox: whoever wakes a loop does not keep it waiting, and its descriptor waits for "
          "them") {
    const auto inbox = make_inbox();
    REQUIRE(inbox->may_sleep());
    std::optional<held_call> hold{"wake a loop"};
    std::thread wakes{[&inbox] { CHECK_FALSE(inbox->hand_in(some_errand())); }};
    while (!hold->has_somebody())
        std::this_thread::yield();
    std::deque<loop_turn> taken;
    inbox->take(taken); // without waiting for that thread
    REQUIRE(taken.size() == 1);
    const errand_ptr owned{taken.front().what};
    inbox->stop();
    CHECK(inbox->woken(true));
    const auto fd = inbox->wake_fd();
    std::thread closes{[&inbox] { inbox->close(); }};
    for (int looks = 0; looks < 1000; ++looks) {
        REQUIRE(::fcntl(fd, F_GETFD) != -1);
        std::this_thread::yield();
    }
    hold.reset();
    wakes.join();
    closes.join();
    CHECK(inbox->wake_fd() == -1);
}

TEST_CASE("loop_inbox: whoever still holds the door of a loop that is gone gets everything back") {
    real_system system;
    auto loop = io_loop::make(system.system());
    REQUIRE(loop);
    const auto door = (*loop)->door();
    std::thread tells{[&door] {
        while (!door->hand_in(some_errand()))
            std::this_thread::yield();
    }};
    loop->reset();
    tells.join();
    CHECK(door->hand_in(some_errand()));
}
