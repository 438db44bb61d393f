// SPDX-License-Identifier: Apache-2.0
// Two ranks of one process. Each has half of its layers in one region and half in another, as when
// a rank's cache lies on two devices. Moves a request between them, byte for byte.
#pragma once

#include "actors/host/runtime.hpp"
#include "messages/type_ids.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace kvferry::testing {

/// One region of a rank, of any kind of memory.
struct region_memory {
    host_region region;
    std::function<void(std::span<const std::byte>)> write;
    std::function<void(std::span<std::byte>)> read;
};

using make_region = std::function<region_memory(int device, std::uint64_t bytes)>;

class two_device_ranks {
public:
    static constexpr std::uint32_t slots = 48;
    static constexpr std::uint32_t blocks = 40;

    /// `format` describes one half of the layers; both ranks are TP 1.
    two_device_ranks(runtime& system, cache_format format, worker_options base,
                     std::array<int, 2> devices, const make_region& make)
        : format_(format) {
        const parallelism half{1, 0, 1, 0, 1, 0, false, {format.layers}};
        for (std::uint32_t region = 0; region < 2; ++region) {
            auto part = build_page_table(format, half, {slots, region, 0});
            REQUIRE(part);
            auto& group = part->groups[0];
            for (auto& layer : group.layers)
                layer += region * format.layers;
            for (auto& view : group.views)
                view.pool = region;
            pages_.groups.push_back(group);
            pages_.pools.push_back(part->pools[0]);
        }
        base.layout = half;
        base.layout.layers_per_stage = {2 * format.layers};
        for (auto* rank : {&context_, &generation_}) {
            base.instance = rank == &context_ ? "prefill" : "decode";
            auto started = system.start_worker(base);
            REQUIRE_MESSAGE(started, describe(started ? caf::error{} : started.error()));
            rank->transfers.emplace(std::move(*started));
            std::vector<host_region> regions;
            for (std::uint32_t region = 0; region < 2; ++region) {
                rank->memory.push_back(
                    make(devices[region], footprint_bytes(pages_.pools[region])));
                regions.push_back(rank->memory.back().region);
            }
            auto published = rank->transfers->publish(regions, pages_);
            REQUIRE_MESSAGE(published, describe(published ? caf::error{} : published.error()));
        }
    }

    /// Every byte of every block arrives, and no other byte changes.
    void serve(std::uint64_t number, const std::string& route) {
        std::mt19937 random{static_cast<std::uint32_t>(number)};
        std::vector<std::vector<std::byte>> sent, before;
        for (std::uint32_t region = 0; region < 2; ++region) {
            sent.push_back(bytes_of(region, random));
            before.push_back(bytes_of(region, random));
            context_.memory[region].write(sent[region]);
            generation_.memory[region].write(before[region]);
        }
        std::vector<std::int32_t> from(slots), to(slots);
        for (auto* list : {&from, &to}) {
            std::iota(list->begin(), list->end(), 0);
            std::shuffle(list->begin(), list->end(), random);
            list->resize(blocks);
        }
        session_options options;
        options.request = rid{number};
        auto receiving =
            generation_.transfers->open_rx(options, {context_.transfers->info_endpoint(), 0});
        receiving.receive(slice(to));
        auto sending = context_.transfers->open_tx(options);
        sending.send(slice(from));
        const auto outcome = receiving.outcome().get();
        CHECK_MESSAGE(outcome.state == session_state::kv_transferred, describe(outcome.error));
        for (const auto& peer : outcome.peers)
            CHECK_MESSAGE(peer.route.text.starts_with(route), peer.route.text);
        sending.released().get();
        receiving.released().get();
        for (std::uint32_t region = 0; region < 2; ++region) {
            const auto& pool = pages_.pools[region];
            auto expected = before[region];
            for (std::uint32_t block = 0; block < blocks; ++block)
                std::memcpy(expected.data() + to[block] * pool.slot_stride_bytes,
                            sent[region].data() + from[block] * pool.slot_stride_bytes,
                            pool.slot_bytes);
            std::vector<std::byte> found(expected.size());
            generation_.memory[region].read(found);
            CHECK((found == expected));
        }
    }

private:
    struct rank {
        std::vector<region_memory> memory;
        std::optional<worker> transfers;
    };

    std::vector<std::byte> bytes_of(std::uint32_t region, std::mt19937& random) const {
        std::vector<std::byte> result(footprint_bytes(pages_.pools[region]));
        for (auto& byte : result)
            byte = std::byte(random());
        return result;
    }

    kv_slice slice(const std::vector<std::int32_t>& list) const {
        const auto tokens = blocks * format_.tokens_per_block;
        return {{0, tokens}, tokens, {{0, list}, {0, list}}, true};
    }

    cache_format format_;
    page_table pages_;
    rank context_, generation_;
};

} // namespace kvferry::testing
