// SPDX-License-Identifier: Apache-2.0
// Instances of workers in this process, with pools whose content says where it belongs.
#pragma once

#include "actors/host/runtime.hpp"
#include "doctest/doctest.h"
#include "messages/type_ids.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace kvferry::testing {

/// One rank: its pool and its worker.
struct test_rank {
    memfd_pool memory;
    page_table pages;
    parallelism layout;
    /// Slot of block i; scattered, like after long serving.
    std::vector<std::int32_t> slots;
    worker transfers;
};

/// The byte of the global cache at (layer, K or V, head, byte of the block's [token][dim] plane).
inline std::byte global_byte(std::uint32_t block, std::uint32_t layer, std::uint32_t kv,
                             std::uint32_t head, std::uint64_t offset) {
    auto mixed = (((block * 131ull + layer) * 131 + kv) * 131 + head) * 1000003ull + offset;
    mixed ^= mixed >> 29;
    mixed *= 0x9e3779b97f4a7c15ull;
    return static_cast<std::byte>(mixed >> 56);
}

/// All ranks of one instance (tp x pp) of a GQA model in the default slot format. Pools of kind
/// cuda are for workers whose devices have host twins: of a loopback world, or by their options.
class test_instance {
public:
    test_instance(runtime& system, std::string name, cache_format format, std::uint32_t tp,
                  std::uint32_t pp, std::uint32_t blocks, worker_options base,
                  memory_kind kind = memory_kind::host_shared)
        : format_(format), blocks_(blocks) {
        std::vector<std::uint32_t> stages(pp, format.layers / pp);
        for (std::uint32_t stage = 0; stage < format.layers % pp; ++stage)
            ++stages[stage];
        std::string endpoint;
        for (std::uint32_t rank = 0; rank < tp * pp; ++rank) {
            parallelism layout;
            layout.tp_size = tp;
            layout.tp_rank = rank % tp;
            layout.pp_size = pp;
            layout.pp_rank = rank / tp;
            layout.layers_per_stage = stages;
            auto options = base;
            options.instance = name;
            options.layout = layout;
            if (base.info_server) // else the test carries the infos
                options.info_endpoint = endpoint;
            auto pages = build_page_table(format, layout, {blocks * 2, 0, 0});
            REQUIRE(pages);
            auto memory =
                memfd_pool::make(name + std::to_string(rank), footprint_bytes(pages->pools[0]));
            REQUIRE(memory);
            auto started = system.start_worker(options);
            REQUIRE_MESSAGE(started, describe(started ? caf::error{} : started.error()));
            if (rank == 0)
                endpoint = started->info_endpoint();
            std::vector<std::int32_t> slots(blocks * 2);
            std::iota(slots.begin(), slots.end(), 0);
            std::shuffle(slots.begin(), slots.end(), std::mt19937{rank + 7});
            slots.resize(blocks);
            ranks_.push_back({std::move(*memory), *pages, layout, slots, std::move(*started)});
        }
        for (auto& rank : ranks_) {
            auto published = rank.transfers.publish(
                {{rank.memory.base(), rank.memory.bytes(), kind, rank.memory.fd()}}, rank.pages);
            REQUIRE_MESSAGE(published, describe(published ? caf::error{} : published.error()));
        }
    }

    std::vector<test_rank>& ranks() { return ranks_; }
    const std::string& endpoint() const { return ranks_[0].transfers.info_endpoint(); }

    kv_slice slice(const test_rank& rank) const {
        auto tokens = blocks_ * format_.tokens_per_block;
        return {{0, tokens}, tokens, {{0, rank.slots}}, true};
    }

    void fill() {
        for (auto& rank : ranks_)
            visit(rank, [](std::byte& place, std::byte value) { place = value; });
    }

    /// Counts bytes that differ from the global cache.
    std::uint64_t wrong_bytes() {
        std::uint64_t wrong = 0;
        for (auto& rank : ranks_)
            visit(rank, [&wrong](std::byte& place, std::byte value) { wrong += place != value; });
        return wrong;
    }

private:
    template <class F>
    void visit(test_rank& rank, F f) {
        auto layers = global_layers(rank.layout);
        auto tp = rank.layout.tp_size;
        auto heads = std::max(1u, format_.kv_heads / tp);
        auto first_head = format_.kv_heads >= tp ? rank.layout.tp_rank * heads
                                                 : rank.layout.tp_rank / (tp / format_.kv_heads);
        std::uint64_t plane =
            std::uint64_t{format_.tokens_per_block} * format_.head_dim * format_.element_bytes;
        const auto& pool = rank.pages.pools[0];
        for (std::uint32_t block = 0; block < blocks_; ++block) {
            auto* slot = rank.memory.base() + rank.slots[block] * pool.slot_stride_bytes;
            for (std::uint32_t layer = 0; layer < layers.count; ++layer)
                for (std::uint32_t kv = 0; kv < 2; ++kv)
                    for (std::uint32_t head = 0; head < heads; ++head)
                        for (std::uint64_t offset = 0; offset < plane; ++offset)
                            f(*slot++, global_byte(block, layers.first + layer, kv,
                                                   first_head + head, offset));
        }
    }

    cache_format format_;
    std::uint32_t blocks_;
    std::vector<test_rank> ranks_;
};

inline session_options options_of(std::uint64_t request) {
    session_options result;
    result.request = rid{request};
    return result;
}

/// Everything that one request opened.
struct test_request {
    std::vector<tx_handle> sending;
    std::vector<rx_handle> receiving;

    void expect(session_state state) {
        for (auto& session : sending)
            CHECK_MESSAGE(session.outcome().get().state == state,
                          to_string(session.outcome().get().state)
                              << " " << describe(session.outcome().get().error));
        for (auto& session : receiving)
            CHECK_MESSAGE(session.outcome().get().state == state,
                          to_string(session.outcome().get().state)
                              << " " << describe(session.outcome().get().error));
        for (auto& session : sending)
            session.released().get();
        for (auto& session : receiving)
            session.released().get();
    }
};

} // namespace kvferry::testing
