// SPDX-License-Identifier: Apache-2.0
// An actor for every device that a rank's pools lie on.
#include "actors/host/worker_parts.hpp"
#include "cuda/cuda_io.hpp"
#include "cuda/device/cuda_copy_device.hpp"
#include "cuda/device/host_copy_device.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>

namespace kvferry {

bool worker::parts::has_twins() const {
    return options.world || options.devices.twins;
}

caf::expected<int> worker::parts::device_of(const host_region& region) const {
    return has_twins() ? std::max(region.device, 0) : cuda_device_of(region.base);
}

caf::error worker::parts::make_devices(std::vector<host_region>& regions) {
    std::set<int> wanted{options.devices.also.begin(), options.devices.also.end()};
    for (std::size_t index = 0; index < regions.size(); ++index) {
        if (regions[index].kind != memory_kind::cuda)
            continue;
        auto found = device_of(regions[index]);
        if (!found)
            return add_context(found.error(), "region {}", index);
        regions[index].device = *found;
        wanted.insert(*found);
    }
    for (auto ordinal : wanted)
        if (!devices.contains(ordinal))
            if (auto problem = make_device(ordinal, wanted))
                return problem;
    adopt_devices all{devices};
    for (const auto& [ordinal, memory] : staging)
        all.staging.emplace(ordinal,
                            host_region{memory.base(), memory.bytes(), memory_kind::host_shared,
                                        options.devices.share_staging ? memory.fd() : -1});
    for (const auto& [ordinal, memory] : landing)
        all.landing.emplace(ordinal, std::span{memory.base(), memory.bytes()});
    tell_from_outside(actor, std::move(all));
    return {};
}

caf::error worker::parts::make_device(int ordinal, const std::set<int>& all) {
    const counting_for rank{counters};
    const auto name = "device " + std::to_string(ordinal);
    if (auto problem = step(name.c_str()))
        return problem;
    std::unique_ptr<copy_device> device;
    if (has_twins()) {
        device = std::make_unique<host_copy_device>();
    } else {
        auto made = make_cuda_copy_device(
            {ordinal, {all.begin(), all.end()}, options.devices.multiprocessors});
        if (!made)
            return std::move(made.error());
        device = std::move(*made);
    }
    auto made = io_loop::make(*system,
                              {"kvferry-cuda" + std::to_string(ordinal), options.bounds.loop_spin});
    if (!made)
        return add_context(made.error(), name);
    auto leaving = memfd_pool::make("kvferry staging", options.bounds.staging_bytes_max);
    if (!leaving)
        return add_context(leaving.error(), "{}, staging memory", name);
    auto landed = memfd_pool::make("kvferry landing", options.bounds.staging_bytes_max);
    if (!landed)
        return add_context(landed.error(), "{}, staging memory", name);
    cuda_io_options how;
    how.ordinal = ordinal;
    how.owner = actor;
    how.stop_deadline = options.bounds.stop_deadline;
    auto spawned = spawn_cuda_io(*system, **made, std::move(device), how);
    if (!spawned)
        return add_context(spawned.error(), name);
    name_thread(**made, name.c_str());
    {
        std::lock_guard lock{devices_mutex_};
        device_loops[ordinal] = std::move(*made);
        devices[ordinal] = *spawned;
    }
    staging.emplace(ordinal, std::move(*leaving));
    landing.emplace(ordinal, std::move(*landed));
    return {};
}

device_actor worker::parts::any_device() const {
    std::lock_guard lock{devices_mutex_};
    return devices.empty() ? device_actor{} : devices.begin()->second;
}

} // namespace kvferry
