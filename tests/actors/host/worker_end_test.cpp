// SPDX-License-Identifier: Apache-2.0
// Whatever a host does at or after the end of a rank: every call is answered, every callback
// called.
#include "actors/host/loopback_world.hpp"
#include "actors/host/runtime.hpp"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace kvferry::testing {

namespace {

using namespace std::chrono_literals;

template <class Future>
bool resolves(const Future& future) {
    return future.wait_for(10s) == std::future_status::ready;
}

cache_format small_format(std::uint32_t heads) {
    cache_format result;
    result.layers = 1;
    result.kv_heads = heads;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    return result;
}

/// A rank without pools: each of its sessions ends at once, with an error.
struct lone_rank {
    std::unique_ptr<runtime> actors = std::make_unique<runtime>();
    std::optional<worker> rank;

    explicit lone_rank(limits bounds = {}) {
        worker_options options;
        options.instance = "lone";
        options.layout.layers_per_stage = {1};
        options.world = std::make_shared<loopback_world>(actors->system());
        options.bounds = bounds;
        auto started = actors->start_worker(std::move(options));
        REQUIRE_MESSAGE(started, describe(started ? caf::error{} : started.error()));
        rank.emplace(std::move(*started));
    }
};

/// What the callbacks of one session are told.
struct told {
    std::promise<session_finished> outcome;
    std::promise<session_released> release;

    session_options options(std::uint64_t request) {
        auto result = options_of(request);
        result.on_outcome = [this](const session_finished& x) { outcome.set_value(x); };
        result.on_released = [this](const session_released& x) { release.set_value(x); };
        return result;
    }
};

template <class Handle>
void expect_refused(const Handle& session, told& by_callback) {
    REQUIRE(resolves(session.outcome()));
    CHECK(session.outcome().get().state == session_state::error);
    CHECK(code_of(session.outcome().get().error) == errc::stopped);
    CHECK(resolves(session.released()));
    auto outcome = by_callback.outcome.get_future();
    REQUIRE(resolves(outcome));
    CHECK(code_of(outcome.get().error) == errc::stopped);
    CHECK(resolves(by_callback.release.get_future()));
}

template <class Result>
bool is_stopped(const Result& result) {
    return !result && code_of(result.error()) == errc::stopped;
}

/// Every call of a worker that has no rank any more.
void expect_no_rank(worker& rank) {
    told tx, rx;
    expect_refused(rank.open_tx(tx.options(1)), tx);
    expect_refused(rank.open_rx(rx.options(2), {"127.0.0.1:1", 0}), rx);
    CHECK(is_stopped(rank.statistics()));
    CHECK(is_stopped(rank.sessions()));
    CHECK(is_stopped(rank.info()));
    CHECK(is_stopped(rank.publish({}, {})));
    CHECK(is_stopped(rank.stop(1s)));
    CHECK(is_stopped(rank.drain(1s)));
    CHECK_FALSE(rank.actor());
}

} // namespace

TEST_CASE("worker: after a stop every call is an error, and sessions end on handle and callbacks") {
    lone_rank test;
    REQUIRE(test.rank->stop(5s));
    expect_no_rank(*test.rank);
}

TEST_CASE("worker: in a quick callback calls that wait for the rank are refused, others are not") {
    lone_rank test;
    std::promise<std::vector<errc>> answers;
    auto options = options_of(1);
    options.quick_callbacks = true;
    options.on_outcome = [&](const session_finished&) {
        auto& rank = *test.rank;
        const auto other = rank.open_tx(options_of(2));
        other.cancel();
        answers.set_value({code_of(rank.statistics().error()),
                           code_of(rank.publish({}, {}).error()), code_of(rank.unpublish(1s)),
                           code_of(rank.connect({"127.0.0.1:1", 0}, 1s)),
                           code_of(rank.remove_instance("@x")), code_of(rank.stop(1s).error()),
                           code_of(rank.drain(1s).error()), code_of(other.status().error()),
                           code_of(other.slots_in_doubt().error()), code_of(other.send({}).get())});
    };
    const auto session = test.rank->open_tx(std::move(options)); // it has no pools: it ends at once
    auto answered = answers.get_future();
    REQUIRE(resolves(answered));
    for (const auto code : answered.get())
        CHECK(code == errc::unsupported);
    CHECK(test.rank->statistics());
    CHECK(test.rank->stop(5s));
}

TEST_CASE("worker: it may be destroyed in a quick callback") {
    lone_rank test;
    std::promise<void> destroyed;
    auto options = options_of(1);
    options.quick_callbacks = true;
    options.on_released = [&](const session_released&) {
        test.rank.reset();
        destroyed.set_value();
    };
    const auto session = test.rank->open_tx(std::move(options));
    REQUIRE(resolves(destroyed.get_future()));
    test.actors.reset();
    CHECK(resolves(session.outcome()));
}

TEST_CASE("worker: one that was moved away answers each call with an error") {
    lone_rank test;
    worker other = std::move(*test.rank);
    expect_no_rank(*test.rank);
    CHECK(test.rank->info_endpoint().empty());
    CHECK(other.statistics());
    CHECK(other.stop(5s));
}

TEST_CASE("worker: sessions that open while it stops each end once, in order, with all callbacks") {
    lone_rank test;
    constexpr std::size_t threads = 3, each = 200;
    std::vector<std::unique_ptr<told>> all(threads * each);
    std::vector<std::optional<tx_handle>> sessions(all.size());
    std::atomic<std::size_t> opened{0};
    std::vector<std::thread> opening;
    for (std::size_t thread = 0; thread < threads; ++thread)
        opening.emplace_back([&, thread] {
            for (std::size_t i = thread * each; i < (thread + 1) * each; ++i) {
                all[i] = std::make_unique<told>();
                sessions[i] = test.rank->open_tx(all[i]->options(i + 1));
                ++opened;
            }
        });
    while (opened < each)
        std::this_thread::yield();
    CHECK(test.rank->stop(5s));
    for (auto& thread : opening)
        thread.join();
    std::size_t ended = 0;
    for (std::size_t i = 0; i < all.size(); ++i)
        ended += resolves(sessions[i]->outcome()) && resolves(sessions[i]->released())
                 && resolves(all[i]->outcome.get_future())
                 && resolves(all[i]->release.get_future());
    CHECK(ended == all.size());
}

TEST_CASE("session handles may outlive their rank and its runtime: every call is an error") {
    std::optional<tx_handle> tx;
    {
        runtime actors;
        worker_options options;
        options.world = std::make_shared<loopback_world>(actors.system());
        const auto model = small_format(1);
        test_instance instance{actors, "short", model, 1, 1, 2, options};
        auto& rank = instance.ranks()[0];
        tx = rank.transfers.open_tx(options_of(7));
        tx->send(instance.slice(rank));
        CHECK(rank.transfers.stop(5s));
    }
    CHECK(code_of(tx->outcome().get().error) == errc::stopped);
    CHECK(resolves(tx->released()));
    tx->cancel();
    CHECK(code_of(tx->send({}).get()) == errc::stopped);
    const auto status = tx->status();
    REQUIRE(status);
    CHECK(status->state == session_state::error);
    CHECK(status->waits_for == "nothing");
}

TEST_CASE(
    "worker: callbacks that block hold up no other rank, no rank info, no start and no stop") {
    runtime actors;
    std::promise<void> go;
    const auto wait = go.get_future().share();
    std::atomic<int> blocked{0};
    std::vector<worker> ranks;
    for (int i = 0; i < 4; ++i) { // more than CAF's scheduler has threads
        worker_options options;
        options.instance = "blocked" + std::to_string(i);
        options.layout.layers_per_stage = {1};
        auto started = actors.start_worker(std::move(options));
        REQUIRE_MESSAGE(started, describe(started ? caf::error{} : started.error()));
        auto how = options_of(1);
        how.on_outcome = [&blocked, wait](const session_finished&) {
            ++blocked;
            wait.wait();
        };
        started->open_tx(how);
        ranks.push_back(std::move(*started));
    }
    while (blocked < 4)
        std::this_thread::yield();
    {
        const auto model = small_format(2);
        test_instance late{actors, "late", model, 2, 1, 2, {}}; // rank 1 asks rank 0's server
        for (auto& rank : late.ranks())
            CHECK(rank.transfers.statistics());
        worker_options failing;
        failing.instance = "failing";
        failing.layout.layers_per_stage = {1};
        failing.fail_at_step = 9;
        CHECK(code_of(actors.start_worker(failing).error()) == errc::unsupported);
        for (std::size_t rank = late.ranks().size(); rank-- > 0;)
            CHECK(late.ranks()[rank].transfers.stop(5s));
    }
    for (auto& rank : ranks)
        CHECK(rank.stop(5s));
    go.set_value();
}

TEST_CASE("worker: while callbacks_waiting_max callbacks wait no session opens, and all are called "
          "in the end") {
    limits bounds;
    bounds.callbacks_waiting_max = 3;
    lone_rank test{bounds};
    std::promise<void> go;
    std::atomic<int> called{0};
    auto how = options_of(1);
    how.on_outcome = [&, wait = go.get_future().share()](const session_finished&) {
        wait.wait();
        ++called;
    };
    std::optional<caf::error> refusal;
    int opened = 0;
    while (!refusal) { // each session ends at once, and its callback waits for the first one
        ++opened;
        const auto why = test.rank->open_tx(how).outcome().get().error;
        if (code_of(why) == errc::limit_exceeded)
            refusal = why;
    }
    CHECK(opened >= 4);
    CHECK(contains(text_of(*refusal), "callbacks_waiting_max = 3"));
    go.set_value();
    while (called < opened)
        std::this_thread::yield();
    CHECK(code_of(test.rank->open_tx(options_of(2)).outcome().get().error) == errc::missing_layout);
    CHECK(test.rank->stop(5s));
}

} // namespace kvferry::testing
