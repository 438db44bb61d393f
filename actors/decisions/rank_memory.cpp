// SPDX-License-Identifier: Apache-2.0
// Registers, pins and exports; a failure ends it when all that is under way has ended.
#include "actors/decisions/rank_memory.hpp"

#include "messages/values/error_format.hpp"

namespace kvferry {

rank_memory::effects rank_memory::on(event&& happened, time_point) {
    return std::visit([this](auto& x) { return on(x); }, happened);
}

rank_memory::effects rank_memory::on(given& x) {
    given_ = std::move(x.pools.regions);
    for (const auto& pool : x.pools.pages.pools)
        own_.region_of_pool.push_back(pool.region);
    own_.devices.assign(with_.devices.begin(), with_.devices.end());
    own_.regions.resize(given_.size());
    effects out;
    std::vector<std::pair<std::size_t, int>> nowhere;
    for (std::size_t index = 0; index < given_.size(); ++index) {
        const auto& region = given_[index];
        regions_.push_back(
            {reinterpret_cast<std::uint64_t>(region.base), region.bytes, region.kind, {}, {}});
        own_.regions[index].kind = region.kind;
        if (region.kind != memory_kind::cuda) {
            if (!with_.devices.empty())
                out.emplace_back(pin{index});
            out.emplace_back(register_here{index});
        } else if (with_.devices.contains(region.device)) {
            own_.regions[index].device = region.device;
            out.emplace_back(export_from{region.device, index});
        } else {
            nowhere.emplace_back(index, region.device);
        }
    }
    pending_ = out.size() + nowhere.size();
    if (pending_ == 0)
        out.emplace_back(ready{});
    for (const auto& [index, device] : nowhere)
        for (auto& effect :
             done(index, make_error(errc::unsupported,
                                    "the rank has no device {}: publish pools through "
                                    "worker::publish",
                                    device)))
            out.push_back(std::move(effect));
    return out;
}

rank_memory::effects rank_memory::on(pinned& x) {
    own_.regions[x.region].unpinned_reason = text_of(x.obstacle);
    return done(x.region, {});
}

/// Chunks count as regions on a same-host connection, where their number is bounded.
rank_memory::effects rank_memory::on(exported& x) {
    auto& how = regions_[x.region].on_device;
    how = std::move(x.done.how);
    const auto count = x.done.chunks.size();
    const auto others = chunks_.size() + given_.size() + with_.also_shared;
    if (count > 0
        && (count + others > with_.shared_regions_max || count > device_chunks_max
            || x.region >= chunked_regions_max)) {
        how.obstacle = fmt::format("memory made of {} chunks, and shared_regions_max = {}", count,
                                   with_.shared_regions_max);
        return {registration_of(x.region)};
    }
    for (std::uint32_t number = 0; number < count; ++number) {
        const auto& chunk = x.done.chunks[number];
        share_region shared;
        shared.region = device_chunk_number(static_cast<std::uint32_t>(x.region), number);
        shared.memfd = chunk.descriptor;
        shared.bytes = chunk.bytes;
        shared.keep = chunk.keep;
        chunks_.push_back(std::move(shared));
    }
    return {registration_of(x.region)};
}

rank_memory::effects rank_memory::on(registered& x) {
    regions_[x.region].access_key = std::move(x.done.access_key);
    ids_.push_back(x.done.region);
    return done(x.region, {});
}

rank_memory::effects rank_memory::on(failed& x) {
    return done(x.region, x.why);
}

rank_memory::register_here rank_memory::registration_of(std::size_t region) const {
    return {region, with_.landing.contains(given_[region].device)};
}

rank_memory::effects rank_memory::done(std::size_t region, const caf::error& failure) {
    if (failure && !failure_)
        failure_ = add_context(failure, "region {}", region);
    if (--pending_ > 0)
        return {};
    if (failure_)
        return {give_up{failure_}};
    return {ready{}};
}

} // namespace kvferry
