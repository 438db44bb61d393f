// SPDX-License-Identifier: Apache-2.0
// Leases that hosts renew, sessions that are kept for a peer, and what hosts hear meanwhile.
#include "actors/host/loopback_world.hpp"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"

#include <future>
#include <mutex>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t layers = 4;
constexpr std::uint32_t blocks = 4;

cache_format format() {
    cache_format result;
    result.layers = layers;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.tokens_per_block = 8;
    return result;
}

struct two_instances {
    runtime system;
    std::shared_ptr<loopback_world> world = std::make_shared<loopback_world>(system.system());
    test_instance context;
    test_instance generation;

    explicit two_instances(limits bounds = {}, std::uint32_t context_pp = 1)
        : context(system, "prefill", format(), 2, context_pp, blocks, options(bounds)),
          generation(system, "decode", format(), 1, 1, blocks, options(bounds)) {
        context.fill();
    }

    worker_options options(const limits& bounds) const {
        worker_options result;
        result.world = world;
        result.bounds = bounds;
        return result;
    }

    rx_handle open_rx(session_options options) {
        return generation.ranks()[0].transfers.open_rx(std::move(options), {context.endpoint(), 0});
    }
};

} // namespace

TEST_CASE("Leases: a session lives as long as its host renews it, and no longer") {
    two_instances both;
    auto options = options_of(1);
    options.deadline = 50ms;
    auto kept = both.context.ranks()[0].transfers.open_tx(options);
    options.request = {2};
    auto left = both.context.ranks()[0].transfers.open_tx(options);
    REQUIRE_FALSE(kept.extend(10min));
    CHECK(code_of(left.outcome().get().error) == errc::deadline_exceeded);
    CHECK(code_of(left.extend(1h)) == errc::gone);
    REQUIRE(kept.status()); // it was opened before the other one, and lives
    CHECK(kept.status()->state == session_state::init);
    kept.cancel();
    kept.released().get();
}

TEST_CASE("Leases: wrong and too long extensions are refused, and change nothing") {
    limits bounds;
    bounds.session_age_max = 1min;
    two_instances both{bounds};
    auto session = both.open_rx(options_of(1));
    CHECK(code_of(session.extend(0ms)) == errc::invalid_argument);
    const auto refused = session.extend(2min);
    CHECK(code_of(refused) == errc::limit_exceeded);
    CHECK(contains(text_of(refused), "session_age_max"));
    CHECK_FALSE(session.extend(30s));
    session.cancel();
    session.released().get();
}

TEST_CASE("Leases: a receiver without slots keeps its writers' sessions, until it has some") {
    limits bounds;
    bounds.session_keep_interval = 5ms;
    two_instances both{bounds};
    std::vector<tx_handle> sending;
    auto options = options_of(1);
    options.deadline = 1s; // many times the interval
    auto waiting = both.open_rx(options_of(1));
    for (auto& rank : both.context.ranks()) {
        sending.push_back(rank.transfers.open_tx(options));
        sending.back().send(both.context.slice(rank));
    }
    options.request = {2}; // nobody waits for this one
    auto left = both.context.ranks()[0].transfers.open_tx(options);
    CHECK(code_of(left.outcome().get().error) == errc::deadline_exceeded);
    waiting.receive(both.generation.slice(both.generation.ranks()[0]));
    CHECK(waiting.outcome().get().state == session_state::kv_transferred);
    for (auto& each : sending)
        CHECK(each.outcome().get().state == session_state::kv_transferred);
    CHECK(both.generation.wrong_bytes() == 0);
}

TEST_CASE("Layers: a receiving host hears of whole layers in order, before the success") {
    for (const std::uint32_t pp : {1, 2}) {
        CAPTURE(pp);
        std::mutex mutex; // what callbacks use outlives those who call
        std::vector<std::uint32_t> ends;
        std::promise<void> first;
        two_instances both{{}, pp};
        auto options = options_of(1);
        options.on_layers = [&](const layers_arrived& told) {
            std::lock_guard lock{mutex};
            ends.push_back(told.end);
            if (ends.size() == 1)
                first.set_value();
        };
        auto receiving = both.open_rx(options);
        receiving.receive(both.generation.slice(both.generation.ranks()[0]));
        std::vector<tx_handle> sending;
        for (auto& rank : both.context.ranks())
            sending.push_back(rank.transfers.open_tx(options_of(1)));
        const auto send = [&](std::uint32_t layer) {
            for (std::size_t index = 0; index < sending.size(); ++index) {
                auto slice = both.context.slice(both.context.ranks()[index]);
                slice.layers = {layer, layer + 1};
                slice.last = layer + 1 == layers;
                sending[index].send(slice);
            }
        };
        send(0);
        first.get_future().get(); // nothing else is sent yet: the first layer is told alone
        {
            std::lock_guard lock{mutex};
            CHECK(ends == std::vector<std::uint32_t>{1});
        }
        for (std::uint32_t layer = 1; layer < layers; ++layer)
            send(layer);
        CHECK(receiving.outcome().get().state == session_state::kv_transferred);
        receiving.released().get();
        std::lock_guard lock{mutex};
        CHECK(std::is_sorted(ends.begin(), ends.end()));
        CHECK(std::adjacent_find(ends.begin(), ends.end()) == ends.end());
        CHECK(both.generation.wrong_bytes() == 0);
    }
}

TEST_CASE("on_ready: the sending host hears how long a prefix its receivers have") {
    two_instances both;
    std::promise<session_ready> ready;
    auto options = options_of(1);
    options.on_ready = [&](const session_ready& told) { ready.set_value(told); };
    auto& sender = both.context.ranks()[0].transfers;
    auto sending = sender.open_tx(options);
    auto other = both.context.ranks()[1].transfers.open_tx(options_of(1));
    auto receiving = both.open_rx(options_of(1));
    auto wanted = both.generation.slice(both.generation.ranks()[0]);
    wanted.groups[0].slots[0] = no_slot;
    receiving.receive(wanted);
    const auto told = ready.get_future().get();
    REQUIRE(told.wants.size() == 1);
    CHECK(told.wants[0].rank == rank_id{0});
    CHECK(told.wants[0].prompt_tokens == blocks * 8);
    CHECK(told.wants[0].prefix_tokens == 8);
    CHECK(told.wants[0].blocks == blocks - 1);
    receiving.cancel();
    receiving.released().get();
    sending.outcome().get();
}

TEST_CASE("Slots in doubt: all while it runs, none once it is released") {
    two_instances both;
    auto receiving = both.open_rx(options_of(1));
    const auto slice = both.generation.slice(both.generation.ranks()[0]);
    receiving.receive(slice);
    auto sorted = slice.groups[0].slots;
    std::sort(sorted.begin(), sorted.end());
    const auto lent = receiving.slots_in_doubt();
    REQUIRE(lent);
    CHECK(lent->groups == std::vector<std::vector<std::int32_t>>{sorted});
    receiving.cancel();
    receiving.released().get();
    CHECK(receiving.slots_in_doubt()->groups.empty());
}

TEST_CASE("Statistics: sessions are counted by how they ended, with the time they took") {
    two_instances both;
    auto& rank = both.context.ranks()[0].transfers;
    auto cancelled = rank.open_tx(options_of(1));
    cancelled.cancel();
    cancelled.released().get();
    auto options = options_of(2);
    options.deadline = 1ms;
    rank.open_tx(options).released().get();
    test_request request;
    for (auto& each : both.context.ranks()) {
        request.sending.push_back(each.transfers.open_tx(options_of(3)));
        request.sending.back().send(both.context.slice(each));
    }
    request.receiving.push_back(both.open_rx(options_of(3)));
    request.receiving.back().receive(both.generation.slice(both.generation.ranks()[0]));
    request.expect(session_state::kv_transferred);
    const auto told = rank.statistics();
    REQUIRE(told);
    CHECK(told->sessions_succeeded == 1);
    CHECK(told->sessions_failed
          == std::map<errc, std::uint64_t>{{errc::deadline_exceeded, 1}, {errc::cancelled, 1}});
    CHECK(told->waited > 0ns);
    CHECK(told->transferred > 0ns);
}
