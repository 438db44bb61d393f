// SPDX-License-Identifier: Apache-2.0
// Tells chunks from whole regions by their numbers.
#include "transport/host_link/offered_memory.hpp"

#include "transport/host_link/memory_mapping.hpp"

#include <algorithm>
#include <memory>
#include <utility>

namespace kvferry {

namespace {

void map(const offered_region& region, offered_memory& into) {
    auto mapping = memory_mapping::make(region.memfd.get(), region.what.bytes);
    if (!mapping) {
        into.obstacles[region.what.region] = text_of(mapping.error());
        return;
    }
    auto shared = std::make_shared<memory_mapping>(std::move(*mapping));
    into.mapped.push_back({region.what.region, shared->base(), region.what.bytes, shared});
}

void add_chunk(offered_region region, offered_memory& into) {
    auto& chunks = into.chunks[region_of_chunk(region.what.region)];
    auto kept = std::make_shared<unique_fd>(std::move(region.memfd));
    const auto descriptor = kept->get();
    chunks.push_back({descriptor, region.what.bytes, std::move(kept)});
}

} // namespace

offered_memory take_in(std::vector<offered_region> offered) {
    std::sort(offered.begin(), offered.end(), [](const offered_region& a, const offered_region& b) {
        return a.what.region < b.what.region;
    });
    offered_memory result;
    for (auto& region : offered)
        if (is_device_chunk(region.what.region))
            add_chunk(std::move(region), result);
        else
            map(region, result);
    return result; // closes the other descriptors: their mappings do not need them
}

} // namespace kvferry
