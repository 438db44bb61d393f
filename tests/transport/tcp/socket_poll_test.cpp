// SPDX-License-Identifier: Apache-2.0
// Whom a wire serves next among its sockets.
#include "transport/tcp/socket_poll.hpp"

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <memory>
#include <sys/epoll.h>
#include <unistd.h>
#include <vector>

using namespace kvferry;

namespace {

/// A pipe that always has something to read, and says so when it is called.
struct reader final : socket_poll::watcher {
    reader(socket_poll& poll, std::optional<flow> bulk, std::function<void(reader&)> called)
        : on_call(std::move(called)) {
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        out = unique_fd{ends[0]};
        in = unique_fd{ends[1]};
        auto made = poll.watch(out.get(), EPOLLIN, *this, bulk);
        REQUIRE(made);
        registration = std::move(*made);
    }
    void fill() { REQUIRE(::write(in.get(), "x", 1) == 1); }
    void empty() {
        char byte = 0;
        REQUIRE(::read(out.get(), &byte, 1) == 1);
    }
    void ready(std::uint32_t) override {
        ++calls;
        on_call(*this);
    }

    std::function<void(reader&)> on_call;
    unique_fd out, in;
    socket_poll::registration registration;
    int calls = 0;
};

constexpr std::uint64_t turn = 256 << 10;

void moves_a_turn(reader& x) {
    x.registration.moved(turn);
}

void dispatch_until(socket_poll& poll, const reader& x, int calls) {
    for (int dispatches = 0; x.calls < calls && dispatches < 100'000; ++dispatches)
        (void)poll.dispatch();
    CHECK(x.calls == calls);
}

} // namespace

TEST_CASE("socket_poll: bulk takes turns by class and by peer; nobody starves") {
    auto poll = std::move(*socket_poll::make());
    std::vector<std::unique_ptr<reader>> all;
    const auto add = [&](priority urgency, std::uint64_t peer) {
        all.push_back(
            std::make_unique<reader>(*poll, flow{.urgency = urgency, .peer = peer}, &moves_a_turn));
        all.back()->fill();
    };
    add(priority::high, 1);
    add(priority::normal, 1);
    add(priority::normal, 2);
    add(priority::normal, 2); // a second socket of the same peer
    add(priority::low, 3);
    int calls = 0;
    while (calls < 2100) {
        CHECK(poll->dispatch());
        calls = 0;
        for (const auto& x : all)
            calls += x->calls;
    }
    CHECK(all[0]->calls == doctest::Approx(1600).epsilon(0.03));
    CHECK(all[1]->calls == doctest::Approx(200).epsilon(0.1));
    CHECK(all[2]->calls == doctest::Approx(100).epsilon(0.15));
    CHECK(all[3]->calls == doctest::Approx(100).epsilon(0.15));
    CHECK(all[4]->calls == doctest::Approx(100).epsilon(0.15));
}

TEST_CASE("socket_poll: who has less to read at a time is called more often, for as many bytes") {
    auto poll = std::move(*socket_poll::make());
    reader much{*poll, flow{.peer = 1}, &moves_a_turn};
    reader little{*poll, flow{.peer = 2}, [](reader& x) { x.registration.moved(turn / 8); }};
    much.fill();
    little.fill();
    dispatch_until(*poll, much, 200);
    CHECK(little.calls == doctest::Approx(1600).epsilon(0.03));
}

TEST_CASE("socket_poll: bytes that are moved between its turns count like those that it moves in "
          "them") {
    auto poll = std::move(*socket_poll::make());
    reader by_itself{*poll, flow{.peer = 1}, &moves_a_turn};
    reader apart{*poll, flow{.peer = 2}, [](reader& x) { x.registration.moved_apart(turn); }};
    by_itself.fill();
    apart.fill();
    dispatch_until(*poll, by_itself, 200);
    CHECK(apart.calls == doctest::Approx(200).epsilon(0.03));
}

TEST_CASE("socket_poll: what is no bulk waits for one turn at most, and a dispatch ends after some "
          "bulk") {
    auto poll = std::move(*socket_poll::make());
    int of_bulk = 0;
    int waited = -1;
    reader frames{*poll, {}, [&](reader& x) {
                      waited = of_bulk;
                      x.empty();
                  }};
    reader bulk{*poll, flow{}, [&](reader& x) {
                    x.registration.moved(turn);
                    if (++of_bulk == 2)
                        frames.fill();
                }};
    bulk.fill();
    for (int times = 1; times < 5; ++times) {
        CHECK(poll->dispatch());
        CHECK(of_bulk == times);
    }
    CHECK(waited == 2); // between the second and the third turn
    CHECK(frames.calls == 1);
    bulk.empty();
    CHECK_FALSE(poll->dispatch());
    CHECK_FALSE(poll->has_work());
}

TEST_CASE("socket_poll: turns without bytes end a dispatch, too, and who has left gets none") {
    auto poll = std::move(*socket_poll::make());
    reader idle{*poll, flow{}, [](reader&) {}};
    idle.fill();
    CHECK(poll->dispatch());
    CHECK(idle.calls <= 32);
    const auto before = idle.calls;
    idle.registration.soon();
    idle.registration.reset();
    CHECK_FALSE(poll->dispatch());
    CHECK(idle.calls == before);
    CHECK_FALSE(poll->has_work());
}

TEST_CASE(
    "socket_poll: what was just written has no answer yet, so the system is asked in the next "
    "dispatch, or at once behind a sleep; then all is quiet") {
    auto poll = std::move(*socket_poll::make());
    reader writes{*poll, {}, [](reader&) {}};
    reader reads{*poll, {}, [](reader& x) { x.empty(); }};
    reads.fill();
    writes.registration.soon();
    CHECK(poll->dispatch(true));
    CHECK(writes.calls == 1);
    CHECK(reads.calls == 0);
    CHECK(poll->is_quiet()); // its loop may sleep: the descriptor is readable
    SUBCASE("however much is written") {
        writes.registration.soon();
        CHECK(poll->dispatch());
        CHECK(writes.calls == 2);
    }
    SUBCASE("behind a sleep") {
        CHECK(poll->dispatch(true));
    }
    CHECK(reads.calls == 1);
    CHECK(poll->is_quiet());
    CHECK_FALSE(poll->dispatch()); // it has just looked
    reads.fill();
    CHECK(poll->dispatch());
    CHECK(reads.calls == 2);
}

TEST_CASE("socket_poll: behind bulk that was read there may be more at once") {
    auto poll = std::move(*socket_poll::make());
    reader bulk{*poll, flow{}, [](reader& x) { x.empty(); }};
    bulk.fill();
    CHECK(poll->dispatch(true));
    CHECK_FALSE(poll->is_quiet());
    CHECK_FALSE(poll->dispatch());
    CHECK(poll->is_quiet());
}
