// SPDX-License-Identifier: Apache-2.0
// Start and stop of a side's ranks, and the two translations: shard to page table, blocks to slice.
#include "tools/demo/side_ranks.hpp"

#include "cuda/device/driver.hpp"
#include "tools/demo/options.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

#include <algorithm>
#include <stdexcept>

namespace kvferry::demo {
namespace {

/// The value, or std::runtime_error with the error's text.
template <class T>
T take(caf::expected<T> result, const std::string& what) {
    if (!result)
        throw std::runtime_error(what + ": " + kvferry::describe(result.error()));
    return std::move(*result);
}

engine::parallelism shape_of(const start_side& setup) {
    return {setup.tp_size, setup.pp_size, setup.attention_dp};
}

} // namespace

side_ranks::side_ranks(const start_side& setup)
    : setup_(setup), weights_(model_of(setup.model, setup.latent, setup.window)),
      geometry_(engine::geometry_of(weights_.config(), setup.tokens_per_block)) {
    make_pools();
    if (setup_.memory == "cuda")
        make_device_pools();
    start_workers();
    for (std::size_t rank = 0; rank < workers_.size(); ++rank)
        publish(rank);
}

void side_ranks::make_pools() {
    auto shards = engine::split(geometry_, shape_of(setup_));
    for (std::size_t rank = 0; rank < shards.size(); ++rank) {
        const auto name = "kvferry-" + setup_.instance + "-" + std::to_string(rank);
        const auto bytes = shards[rank].slot_bytes * setup_.slots;
        // The pages are touched now, so that the first transfer does not pay for zeroing them.
        pools_.push_back(
            take(memfd_pool::make(name, bytes, {.huge_pages = false, .prefault = true}),
                 "pool of rank " + std::to_string(rank)));
        shards[rank].attach({pools_.back().base(), bytes});
    }
    // Seeds differ, so that the two sides scatter their slots differently.
    const std::uint64_t seed = setup_.instance == "context" ? 11 : 23;
    host_.emplace(weights_, engine::kv_cache(geometry_, shape_of(setup_), std::move(shards), seed));
}

/// The context side takes devices from the first on, the generation side from the last on
/// backwards: with two devices, every byte crosses between them.
void side_ranks::make_device_pools() {
    const auto found = cuda_probe();
    if (!found.available)
        throw std::runtime_error("--memory cuda: " + found.reason);
    const auto count = found.devices.size();
    for (std::size_t rank = 0; rank < pools_.size(); ++rank) {
        const auto turn = rank % count;
        const auto device = setup_.instance == "context" ? turn : count - 1 - turn;
        device_pools_.push_back(
            take(make_device_pool(static_cast<int>(device), pools_[rank].bytes()),
                 setup_.instance + " rank " + std::to_string(rank)));
    }
}

void side_ranks::copy_to_device(const engine::sequence& request) {
    for (std::size_t rank = 0; rank < device_pools_.size(); ++rank) {
        const auto bytes = host_->cache().shards()[rank].slot_bytes;
        for (const auto slot : request.slots(rank)) {
            const auto offset = slot * bytes;
            if (auto problem =
                    device_pools_[rank]->write(offset, {pools_[rank].base() + offset, bytes}))
                throw std::runtime_error("to the device: " + kvferry::describe(problem));
        }
    }
}

void side_ranks::copy_from_device(const engine::sequence& request) {
    for (std::size_t rank = 0; rank < device_pools_.size(); ++rank) {
        const auto bytes = host_->cache().shards()[rank].slot_bytes;
        for (const auto slot : request.slots(rank)) {
            const auto offset = slot * bytes;
            if (auto problem =
                    device_pools_[rank]->read(offset, {pools_[rank].base() + offset, bytes}))
                throw std::runtime_error("from the device: " + kvferry::describe(problem));
        }
    }
}

host_region side_ranks::region_of(std::size_t rank) const {
    if (!device_pools_.empty()) {
        const auto& pool = *device_pools_[rank];
        return {pool.base(), pool.bytes(), memory_kind::cuda, -1};
    }
    const auto& pool = pools_[rank];
    return {pool.base(), pool.bytes(), memory_kind::host_shared, pool.fd()};
}

void side_ranks::start_workers() {
    const std::chrono::seconds deadline{setup_.deadline_seconds};
    for (std::size_t rank = 0; rank < pools_.size(); ++rank) {
        worker_options options;
        options.instance = setup_.instance;
        options.layout = place_of(rank);
        options.route = take(parse_route_choice(setup_.route), "--route");
        options.info_endpoint = rank == 0 ? "" : workers_.front().info_endpoint();
        // How long a request may wait for its prefill, here and at the sender.
        options.bounds.session_deadline = deadline;
        options.bounds.early_request_lease = deadline;
        options.bounds.digests = digest_level::memory;
        workers_.push_back(take(runtime_.start_worker(options),
                                setup_.instance + " rank " + std::to_string(rank)));
    }
}

void side_ranks::publish(std::size_t rank) {
    const auto name = setup_.instance + " rank " + std::to_string(rank);
    cache_format format;
    format.layers = static_cast<std::uint32_t>(geometry_.layers);
    format.kv_heads = static_cast<std::uint32_t>(geometry_.kv_heads);
    format.head_dim = static_cast<std::uint32_t>(geometry_.head_dim);
    format.element_bytes = sizeof(float);
    format.element_type = "fp32";
    format.tokens_per_block = setup_.tokens_per_block;
    format.kind = geometry_.latent ? attention_kind::mla : attention_kind::gqa;
    if (geometry_.window != 0)
        format.window_tokens = static_cast<std::uint32_t>(geometry_.window);
    auto pages = take(build_page_table(format, place_of(rank), {.slot_count = setup_.slots}), name);
    take(workers_[rank].publish({region_of(rank)}, std::move(pages)), name);
}

parallelism side_ranks::place_of(std::size_t rank) const {
    parallelism place;
    place.tp_size = setup_.tp_size;
    place.tp_rank = static_cast<std::uint32_t>(rank % setup_.tp_size);
    place.attention_dp = setup_.attention_dp;
    place.pp_size = setup_.pp_size;
    place.pp_rank = static_cast<std::uint32_t>(rank / setup_.tp_size);
    for (std::size_t stage = 0; stage < setup_.pp_size; ++stage) {
        const auto& shard = host_->cache().shards()[stage * setup_.tp_size];
        place.layers_per_stage.push_back(static_cast<std::uint32_t>(shard.layer_count));
    }
    return place;
}

std::vector<std::uint32_t> side_ranks::group(std::uint32_t dp_rank) const {
    std::vector<std::uint32_t> result;
    for (std::uint32_t rank = 0; rank < workers_.size(); ++rank) {
        if (!setup_.attention_dp || rank % setup_.tp_size == dp_rank)
            result.push_back(rank);
    }
    return result;
}

kv_slice side_ranks::slice_of(const engine::sequence& request, std::size_t rank) const {
    const auto tokens = static_cast<std::uint32_t>(request.prompt_length());
    const auto first = geometry_.first_live(request.prompt_length()) / geometry_.tokens_per_block;
    const auto slots = request.slots(rank).subspan(first);
    kv_slice slice;
    slice.tokens = {0, tokens};
    slice.prompt_tokens = tokens;
    slice.groups.push_back({static_cast<std::uint32_t>(first), {slots.begin(), slots.end()}});
    return slice;
}

session_options side_ranks::session(std::uint64_t request) const {
    session_options options;
    options.request = rid{request};
    options.aux = setup_.aux ? aux_mode::required : aux_mode::none;
    options.deadline = std::chrono::seconds{setup_.deadline_seconds};
    return options;
}

side_started side_ranks::describe() const {
    side_started result;
    result.info_endpoint = workers_.front().info_endpoint();
    if (const auto info = workers_.front().info())
        result.transports = info->transports;
    for (const auto& shard : host_->cache().shards()) {
        result.ranks.push_back({static_cast<std::uint32_t>(shard.first_layer),
                                static_cast<std::uint32_t>(shard.layer_count),
                                static_cast<std::uint32_t>(shard.first_head),
                                static_cast<std::uint32_t>(shard.head_count), shard.pool.size()});
    }
    return result;
}

std::vector<std::string> side_ranks::stop(std::chrono::milliseconds deadline) {
    std::vector<std::string> unproven;
    for (std::size_t rank = workers_.size();
         rank-- > 0;) { // rank 0 goes last: it serves the other ranks' infos
        const auto name = setup_.instance + " rank " + std::to_string(rank);
        const auto stopped = workers_[rank].stop(deadline);
        if (!stopped)
            unproven.push_back(name + ": " + kvferry::describe(stopped.error()));
    }
    return unproven;
}

} // namespace kvferry::demo
