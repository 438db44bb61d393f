// SPDX-License-Identifier: Apache-2.0
// Pools that are withdrawn and published again, links before the first request, and slices that
// wait for an event.
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/silent_listener.hpp"

#include <atomic>
#include <thread>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

cache_format small_format() {
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.tokens_per_block = 16;
    return result;
}

/// Two instances of one process, which speak over UCX and sockets as two processes do.
struct two_instances {
    explicit two_instances(std::uint32_t context_tp = 1, std::uint32_t generation_tp = 1,
                           memory_kind kind = memory_kind::host_shared)
        : context(system, "prefill", small_format(), context_tp, 1, blocks, options(kind), kind),
          generation(system, "decode", small_format(), generation_tp, 1, blocks, options(kind),
                     kind) {
        context.fill();
    }

    static worker_options options(memory_kind kind) {
        worker_options result;
        result.devices.twins = kind == memory_kind::cuda;
        result.bounds.session_deadline = 20s;
        return result;
    }

    test_request begin(std::uint64_t number, device_events events = {}) {
        test_request result;
        for (auto& rank : context.ranks()) {
            result.sending.push_back(rank.transfers.open_tx(options_of(number)));
            result.sending.back().send(context.slice(rank));
        }
        for (auto& rank : generation.ranks()) {
            result.receiving.push_back(
                rank.transfers.open_rx(options_of(number), {context.endpoint(), 0}));
            result.receiving.back().receive(generation.slice(rank), events);
        }
        return result;
    }

    void serve(std::uint64_t number) {
        for (auto& rank : generation.ranks())
            std::memset(rank.memory.base(), 0, rank.memory.bytes());
        begin(number).expect(session_state::kv_transferred);
        CHECK(generation.wrong_bytes() == 0);
    }

    static constexpr std::uint32_t blocks = 6;
    runtime system;
    test_instance context;
    test_instance generation;
};

/// As an engine that sleeps: the old memory is freed, the new one is larger and filled anew.
void wake_elsewhere(test_instance& instance, test_rank& rank) {
    const auto before = rank.transfers.info()->info.incarnation;
    const auto problem = rank.transfers.unpublish(10s);
    REQUIRE_MESSAGE(!problem, describe(problem));
    auto memory = memfd_pool::make("moved", rank.memory.bytes() * 2);
    REQUIRE(memory);
    rank.memory = std::move(*memory);
    rank.pages.pools[0].slot_count *= 2;
    auto published = rank.transfers.publish(
        {{rank.memory.base(), rank.memory.bytes(), memory_kind::host_shared, rank.memory.fd()}},
        rank.pages);
    REQUIRE_MESSAGE(published, describe(published.error()));
    CHECK(published->incarnation != before);
    instance.fill();
}

} // namespace

TEST_CASE("worker: pools of either side are withdrawn and others published, without a new worker") {
    two_instances test{2, 1};
    test.serve(1);
    wake_elsewhere(test.context, test.context.ranks()[1]); // a rank beside the one with the server
    test.serve(2);
    wake_elsewhere(test.context, test.context.ranks()[0]); // its server goes on
    test.serve(3);
    wake_elsewhere(test.generation, test.generation.ranks()[0]);
    test.serve(4);
    CHECK(test.context.ranks()[0].transfers.statistics()->sessions_opened == 4);
}

TEST_CASE("worker: pools that a session has not released stay published, by name of the session") {
    two_instances test;
    auto waits =
        test.generation.ranks()[0].transfers.open_rx(options_of(7), {test.context.endpoint(), 0});
    waits.receive(test.generation.slice(test.generation.ranks()[0]));
    const auto problem = test.generation.ranks()[0].transfers.unpublish(30ms);
    CHECK(code_of(problem) == errc::deadline_exceeded);
    CHECK(contains(text_of(problem), "rank 0 of decode keeps its pools: 1 sessions"));
    CHECK(contains(text_of(problem), "rid 7"));
    auto sending = test.context.ranks()[0].transfers.open_tx(options_of(7));
    sending.send(test.context.slice(test.context.ranks()[0]));
    CHECK(waits.outcome().get().state == session_state::kv_transferred);
    waits.released().get();
    sending.released().get();
    CHECK_FALSE(test.generation.ranks()[0].transfers.unpublish(10s));
}

TEST_CASE("worker: between two publications sessions are refused by name, and old handles stay "
          "what they were") {
    two_instances test;
    test.serve(1);
    auto& rank = test.generation.ranks()[0];
    auto old = rank.transfers.open_rx(options_of(2), {test.context.endpoint(), 0});
    old.cancel();
    old.released().get();
    REQUIRE_FALSE(rank.transfers.unpublish(10s));
    auto early = rank.transfers.open_rx(options_of(3), {test.context.endpoint(), 0});
    CHECK(code_of(early.outcome().get().error) == errc::missing_layout);
    CHECK(old.outcome().get().state == session_state::cancelled);
    const auto status = old.status();
    REQUIRE(status);
    CHECK(status->state == session_state::cancelled);
    CHECK(status->request == rid{2});
    CHECK(status->waits.empty());
    CHECK_FALSE(rank.transfers.unpublish(10s)); // nothing to take back, and no harm
    CHECK(rank.transfers.stop(10s));
    CHECK(code_of(rank.transfers.unpublish(10s)) == errc::stopped);
}

TEST_CASE("worker: a rank that cannot be made anew after its pools were withdrawn has stopped") {
    runtime system;
    worker_options options;
    options.instance = "only";
    options.layout.layers_per_stage = {1};
    options.fail_at_step = 11; // the fabric, the second time
    auto started = system.start_worker(options);
    REQUIRE_MESSAGE(started, describe(started.error()));
    const auto problem = started->unpublish(10s);
    CHECK(contains(text_of(problem), "was made to fail by fail_at_step"));
    CHECK(code_of(started->stop(10s).error()) == errc::stopped);
}

TEST_CASE("worker: connect() makes the links to the ranks that will write, before any session") {
    two_instances test{2, 2};
    auto& rank = test.generation.ranks()[0];
    CHECK(rank.transfers.statistics()->links_live == 0);
    const auto problem = rank.transfers.connect({test.context.endpoint(), 0}, 10s);
    REQUIRE_MESSAGE(!problem, describe(problem));
    const auto linked = rank.transfers.statistics()->links_live;
    CHECK(linked > 0);
    test.serve(1);
    CHECK(rank.transfers.statistics()->links_live == linked);
    CHECK(code_of(rank.transfers.connect({"127.0.0.1:1", 0}, 2s)) == errc::dial_failed);
}

TEST_CASE("worker: connect() by a name, and etcd takes the question and does not answer: the error "
          "names both, and what to do") {
    const silent_listener silent;
    const auto etcd = "http://" + silent.endpoint;

    runtime system;
    worker_options options;
    options.instance = "only";
    options.layout.layers_per_stage = {1};
    options.directory.endpoints = etcd;
    auto started = system.start_worker(options);
    if (!started && code_of(started.error()) == errc::unsupported)
        return; // built without libcurl
    REQUIRE_MESSAGE(started, describe(started.error()));
    const auto problem = started->connect({"etcd:prefill-3", 0}, 100ms);
    CHECK(code_of(problem) == errc::deadline_exceeded);
    CHECK_MESSAGE(contains(text_of(problem), "prefill-3"), text_of(problem));
    CHECK_MESSAGE(contains(text_of(problem), etcd), text_of(problem));
    CHECK_MESSAGE(contains(text_of(problem), "kvferry instances"), text_of(problem));
    CHECK(started->stop(10s));
}

TEST_CASE("worker: no writer is asked for pages before the event that the host gave for them") {
    two_instances test{1, 1, memory_kind::cuda};
    std::atomic<bool> pages_read{false};
    auto waits = test.begin(1, {&pages_read, nullptr});
    test.begin(2).expect(session_state::kv_transferred); // others go past it
    auto& sending = waits.sending[0];
    CHECK(sending.outcome().wait_for(0s) == std::future_status::timeout);
    const auto status = sending.status();
    REQUIRE(status);
    CHECK(status->state == session_state::init); // its receiver has not asked
    pages_read = true;
    waits.expect(session_state::kv_transferred);
    CHECK(test.generation.wrong_bytes() == 0);
}

TEST_CASE("worker: without a device an event cannot be waited for, which ends the session") {
    two_instances test;
    std::atomic<bool> event{true};
    auto session =
        test.generation.ranks()[0].transfers.open_rx(options_of(1), {test.context.endpoint(), 0});
    session.receive(test.generation.slice(test.generation.ranks()[0]), {&event, nullptr});
    CHECK(code_of(session.outcome().get().error) == errc::unsupported);
    session.released().get();
}
