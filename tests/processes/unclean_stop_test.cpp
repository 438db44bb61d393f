// SPDX-License-Identifier: Apache-2.0
// A host that ends its rank while a frozen process still wants to write into the rank's memory.
#include "actors/kvferry.hpp"
#include "tests/processes/end_to_end.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace kvferry::testing {

namespace {

using namespace std::chrono_literals;

constexpr unsigned blocks = large_blocks;

template <class T>
T value_of(caf::expected<T> result) {
    if (!result)
        throw std::runtime_error(describe(result.error()));
    return std::move(*result);
}

/// A generation rank in this process, with one session that a process of its own writes to; that
/// process is frozen when the first bytes have come.
class receiving_host {
public:
    explicit receiving_host(bool same_host) : context_({"context", 1, 1, large_model, blocks, {}}) {
        cache_format format; // large_model
        format.layers = 8;
        format.kv_heads = 8;
        format.head_dim = 64;
        format.element_type = "2 bytes"; // as the worker calls them
        format.tokens_per_block = 32;
        format.layout = mapper_kind::nhd;
        worker_options options;
        options.instance = "generation";
        options.layout.layers_per_stage = {format.layers};
        options.same_host_link = same_host;
        options.bounds.stop_deadline = 500ms;
        auto pages = value_of(build_page_table(format, options.layout, {.slot_count = blocks}));
        pool_ = std::make_shared<memfd_pool>(
            value_of(memfd_pool::make("generation", footprint_bytes(pages.pools[0]))));
        rank_.emplace(value_of(system_.start_worker(options)));
        value_of(rank_->publish(
            {{pool_->base(), pool_->bytes(), memory_kind::host_shared, pool_->fd(), -1, pool_}},
            pages));
        const auto moves = whole_blocks(1, blocks, 32);
        send(context_, moves);
        session_options request;
        request.request = {1};
        session_.emplace(rank_->open_rx(std::move(request), {context_.endpoint, 0}));
        session_->receive(
            {.tokens = {0, blocks * 32},
             .prompt_tokens = blocks * 32,
             .groups = {{0, {moves.generation_slots.begin(), moves.generation_slots.end()}}},
             .last = true});
        while (bytes().find_first_not_of('\0') == std::string_view::npos) {
            const auto outcome = session_->outcome();
            if (outcome.wait_for(0s) == std::future_status::ready)
                throw std::runtime_error(describe(outcome.get().error));
        }
        context_[0].freeze();
    }

    worker& rank() { return *rank_; }
    void destroy_rank() { rank_.reset(); }

    /// The host has no use for its memory any more.
    std::weak_ptr<memfd_pool> drop_memory() { return std::exchange(pool_, nullptr); }

    std::size_t digest() const { return std::hash<std::string_view>{}(bytes()); }
    /// The process goes on, and says how its part has ended.
    json thaw() {
        context_[0].thaw();
        return context_[0].outcome(1);
    }

private:
    std::string_view bytes() const {
        return {reinterpret_cast<const char*>(pool_->base()), pool_->bytes()};
    }

    instance_processes context_;
    runtime system_;
    std::shared_ptr<memfd_pool> pool_;
    std::optional<worker> rank_;
    std::optional<rx_handle> session_;
};

} // namespace

TEST_CASE("end to end: after the end of a rank nothing of a writer that only sends messages lands "
          "in its memory, however it ended") {
    receiving_host host{false};
    SUBCASE("stopped") {
        const auto stopped = host.rank().stop(2s);
        CHECK_MESSAGE(stopped, (stopped ? "" : describe(stopped.error())));
    }
    SUBCASE("stopped without time") {
        (void)host.rank().stop(1ms);
    }
    SUBCASE("destroyed") {}
    host.destroy_rank();
    const auto at_the_end = host.digest();
    CHECK_FALSE(host.thaw().at("error").is_null()); // it had not sent all
    CHECK(host.digest() == at_the_end);
}

TEST_CASE("end to end: what a frozen writer has mapped is kept, and named, when its rank ends") {
    receiving_host host{true};
    SUBCASE("stopped") {
        const auto stopped = host.rank().stop(500ms);
        REQUIRE_FALSE(stopped);
        CHECK(code_of(stopped.error()) == errc::not_proven);
    }
    SUBCASE("destroyed") {}
    host.destroy_rank();
    const auto memory = host.drop_memory();
    CHECK_FALSE(memory.expired());
    host.thaw(); // it may write all it has: that memory is nobody else's
    CHECK_FALSE(memory.expired());
}

} // namespace kvferry::testing
