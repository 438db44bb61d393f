// SPDX-License-Identifier: Apache-2.0
// The event queue as a host sees it: level-triggered, bounded, without loss.
#include "tests/actors/c_api/c_rank.hpp"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>
#include <unistd.h>

using namespace c_api_test;

namespace {

/// A session that ends at once: two events.
kvf_session* open_and_cancel(const rank& on, std::uint64_t rid) {
    auto* session = on.open_tx(rid);
    KVF_REQUIRE(kvf_session_cancel(session, nullptr));
    wait_released(session);
    return session;
}

int try_open(const rank& on, std::uint64_t rid, std::uint32_t flags, kvf_session** session) {
    auto options = sized<kvf_session_options>();
    options.rid = rid;
    options.flags = flags;
    return kvf_worker_open_tx(on.worker, &options, session);
}

} // namespace

TEST_CASE("C ABI events: the descriptor is readable exactly while events wait, whoever reads it") {
    rank context{"prefill"};
    CHECK(!context.readable());
    KVF_CHECK_FAILS(KVF_DEADLINE_EXCEEDED, kvf_worker_wait(context.worker, 0));
    auto* session = open_and_cancel(context, 1);
    CHECK(context.readable());
    int fd = -1;
    KVF_REQUIRE(kvf_worker_event_fd(context.worker, &fd));
    std::uint64_t count = 0;
    CHECK(::read(fd, &count, sizeof count) == sizeof count); // it should not, but hosts do
    auto statistics = sized<kvf_statistics>();
    KVF_REQUIRE(kvf_worker_statistics(context.worker, &statistics));
    CHECK(statistics.events_waiting == 2);
    CHECK(statistics.sessions_opened == 1);

    auto event = sized<kvf_event>();
    std::size_t taken = 7;
    KVF_REQUIRE(kvf_worker_events(context.worker, &event, 0, &taken));
    CHECK(taken == 0);
    KVF_REQUIRE(kvf_worker_events(context.worker, &event, 1, &taken));
    REQUIRE(taken == 1);
    CHECK(event.kind == KVF_EVENT_OUTCOME);
    CHECK(event.state == KVF_STATE_CANCELLED);
    CHECK(event.session == session);
    CHECK(event.elapsed_ns > 0);
    CHECK(context.readable());
    KVF_REQUIRE(kvf_worker_wait(context.worker, -1));
    KVF_REQUIRE(kvf_worker_events(context.worker, &event, 1, &taken));
    CHECK(event.kind == KVF_EVENT_RELEASED);
    CHECK(!context.readable());
    KVF_REQUIRE(kvf_worker_events(context.worker, &event, 1, &taken));
    CHECK(taken == 0);
}

TEST_CASE("C ABI events: a full queue refuses sessions by name, and loses nothing") {
    rank context{"prefill", 8, 6};
    for (std::uint64_t rid = 1; rid <= 3; ++rid)
        open_and_cancel(context, rid);
    kvf_session* session = nullptr;
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, try_open(context, 4, 0, &session));
    CHECK(std::string{kvf_last_error()}.find("events_max = 6") != std::string::npos);
    CHECK(session == nullptr);
    const auto events = context.take(6);
    for (std::size_t index = 0; index < events.size(); ++index) {
        CHECK(events[index].rid == index / 2 + 1);
        CHECK(events[index].user == events[index].rid * 10);
        CHECK(events[index].kind == (index % 2 == 0 ? KVF_EVENT_OUTCOME : KVF_EVENT_RELEASED));
    }

    // Places are held before an event comes, and are free when it cannot come any more.
    KVF_REQUIRE(try_open(context, 4, KVF_TELL_READY | KVF_TELL_PIECES, &session));
    const std::vector<std::int32_t> slots{0};
    slice first{slots};
    first.more = 1;
    for (int piece = 0; piece < 3; ++piece)
        KVF_REQUIRE(kvf_session_send(session, &first));
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, kvf_session_send(session, &first));
    kvf_session* other = nullptr;
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, try_open(context, 5, 0, &other));
    KVF_REQUIRE(kvf_session_cancel(session, nullptr));
    while (context.take(1)[0].kind != KVF_EVENT_RELEASED) {
    }
    for (std::uint64_t rid = 5; rid <= 7; ++rid) // all six places are free again
        KVF_REQUIRE(try_open(context, rid, 0, &other));
    KVF_CHECK_FAILS(KVF_LIMIT_EXCEEDED, try_open(context, 8, 0, &other));
}

TEST_CASE("C ABI events: a session that is freed tells nothing more, and holds no places") {
    rank context{"prefill", 8, 4};
    for (std::uint64_t rid = 1; rid <= 50; ++rid) {
        kvf_session* waits = open_and_cancel(context, 2 * rid); // its events wait
        kvf_session* lives = context.open_tx(2 * rid + 1);
        KVF_REQUIRE(kvf_session_free(waits));
        KVF_REQUIRE(kvf_session_cancel(lives, nullptr));
        wait_released(lives);
        const auto events = context.take(2);
        CHECK(events[0].session == lives);
        CHECK(events[1].session == lives);
        KVF_REQUIRE(kvf_session_free(lives));
        CHECK(!context.readable());
    }
}

TEST_CASE("C ABI events: callers with smaller and with larger events") {
    rank context{"prefill"};
    open_and_cancel(context, 7);
    struct larger {
        kvf_event event;
        std::uint64_t newer = 0xff;
    } large;
    large.event = sized<kvf_event>();
    large.event.size = sizeof large;
    std::size_t taken = 0;
    KVF_REQUIRE(kvf_worker_events(context.worker, &large.event, 1, &taken));
    CHECK(large.event.rid == 7);
    CHECK(large.newer == 0);

    std::uint64_t small[5] = {24, 1, 2, 0x77, 0x77}; // up to `user`
    KVF_REQUIRE(kvf_worker_events(context.worker, reinterpret_cast<kvf_event*>(small), 1, &taken));
    CHECK(taken == 1);
    CHECK(small[0] == (std::uint64_t{KVF_EVENT_RELEASED} << 32 | 24));
    CHECK(small[2] == 70);
    CHECK(small[3] == 0x77);
}

TEST_CASE("C ABI events: many sessions from many threads, each told exactly twice") {
    rank context{"prefill"};
    constexpr std::uint64_t threads_count = 4, each = 250;
    std::vector<std::thread> threads;
    std::atomic<int> refused{0};
    for (std::uint64_t number = 0; number < threads_count; ++number)
        threads.emplace_back([&, number] {
            for (std::uint64_t index = 0; index < each; ++index) {
                auto options = sized<kvf_session_options>();
                options.rid = number * each + index + 1;
                kvf_session* session = nullptr;
                refused += kvf_worker_open_tx(context.worker, &options, &session) != KVF_OK;
                refused += kvf_session_cancel(session, "") != KVF_OK;
            }
        });
    std::multiset<std::uint64_t> outcomes, releases;
    for (const auto& event : context.take(2 * threads_count * each)) {
        (event.kind == KVF_EVENT_OUTCOME ? outcomes : releases).insert(event.rid);
        CHECK(outcomes.count(event.rid) == 1);
        if (event.kind == KVF_EVENT_RELEASED)
            KVF_REQUIRE(kvf_session_free(event.session));
    }
    for (auto& thread : threads)
        thread.join();
    CHECK(refused == 0);
    CHECK(outcomes == releases);
    CHECK(outcomes.size() == threads_count * each);
}

TEST_CASE("C ABI events: freeing a worker ends the waits of other threads") {
    auto context = std::make_unique<rank>("prefill");
    int waited = KVF_OK;
    std::thread waiting{[&, worker = context->worker] { waited = kvf_worker_wait(worker, -1); }};
    context.reset();
    waiting.join();
    CHECK(waited == KVF_GONE);
}
