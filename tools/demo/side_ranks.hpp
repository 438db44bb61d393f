// SPDX-License-Identifier: Apache-2.0
// All ranks of one side in this process: a pool and a kvferry worker each, one engine over all.
#pragma once

#include "actors/host/runtime.hpp"
#include "actors/host/worker.hpp"
#include "cuda/device/device_pool.hpp"
#include "tools/demo/protocol.hpp"
#include "tools/engine/engine.hpp"
#include "transport/host_link/memfd_pool.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::demo {

class side_ranks {
public:
    /// Makes the pools, starts the workers and publishes every rank. Throws std::runtime_error
    /// that names the rank.
    explicit side_ranks(const start_side& setup);

    engine::engine& host() noexcept { return *host_; }
    std::size_t size() const noexcept { return workers_.size(); }
    worker& rank(std::size_t index) { return workers_[index]; }

    /// The ranks that run the requests of a DP group; without attention DP, all ranks.
    std::vector<std::uint32_t> group(std::uint32_t dp_rank) const;

    /// A request's whole prompt on one rank, without the blocks that its window has passed.
    kv_slice slice_of(const engine::sequence& request, std::size_t rank) const;

    /// With pools on devices, the engine's blocks of a request go there before they are sent, and
    /// come back when they have arrived. Throws std::runtime_error with the device's reason.
    void copy_to_device(const engine::sequence& request);
    void copy_from_device(const engine::sequence& request);

    session_options session(std::uint64_t request) const;

    side_started describe() const;

    /// Stops all ranks. Returns the names of those whose memory is not proven quiet.
    std::vector<std::string> stop(std::chrono::milliseconds deadline);

private:
    void make_pools();
    void start_workers();
    void make_device_pools();
    host_region region_of(std::size_t rank) const;
    void publish(std::size_t rank);
    parallelism place_of(std::size_t rank) const;

    start_side setup_;
    engine::model weights_;
    engine::kv_geometry geometry_;
    /// The engine's pools. Transfers use the same ones, unless there are pools on devices.
    std::vector<memfd_pool> pools_;
    std::vector<std::unique_ptr<device_pool>> device_pools_;
    std::optional<engine::engine> host_;
    runtime runtime_;
    std::vector<worker> workers_;
};

} // namespace kvferry::demo
