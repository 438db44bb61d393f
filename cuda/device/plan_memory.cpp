// SPDX-License-Identifier: Apache-2.0
// Pieces of three sizes, cut from one allocation on each side.
#include "cuda/device/plan_memory.hpp"

#include <algorithm>
#include <bit>
#include <utility>

namespace kvferry {

namespace {

struct size_class {
    std::size_t bytes;
    std::size_t count;
};

/// As many as cuda_io_options::transfers_active_max, in all 8 MiB; a plan has 8 bytes for each pair
/// of slots.
constexpr size_class classes[] = {
    {std::size_t{64} << 10, 54},
    {std::size_t{256} << 10, 8},
    {std::size_t{1} << 20, 2},
};

constexpr std::size_t bytes_of_all() {
    std::size_t result = 0;
    for (const auto& x : classes)
        result += x.bytes * x.count;
    return result;
}

template <class Owner>
std::shared_ptr<std::byte> shared(Owner owner) {
    return std::shared_ptr<std::byte>{std::move(owner)};
}

} // namespace

caf::error plan_store::reserve() {
    auto pinned = make_pinned_memory(bytes_of_all());
    if (!pinned)
        return std::move(pinned.error());
    auto device = make_device_memory(bytes_of_all());
    if (!device)
        return add_context(device.error(), "memory for plans, which a rank takes on each device");
    const auto on_host = shared(std::move(*pinned));
    const auto on_device = shared(std::move(*device));
    std::size_t offset = 0;
    for (const auto& x : classes)
        for (std::size_t i = 0; i < x.count; ++i, offset += x.bytes)
            free_.push_back({{on_host, on_host.get() + offset},
                             {on_device, on_device.get() + offset},
                             x.bytes});
    return {};
}

caf::expected<plan_memory> plan_store::take(std::size_t bytes) {
    auto best = free_.end();
    for (auto x = free_.begin(); x != free_.end(); ++x)
        if (x->bytes >= bytes && (best == free_.end() || x->bytes < best->bytes))
            best = x;
    if (best != free_.end()) {
        std::swap(*best, free_.back());
        auto result = std::move(free_.back());
        free_.pop_back();
        return result;
    }
    bytes = std::bit_ceil(std::max(bytes, classes[0].bytes));
    auto pinned = make_pinned_memory(bytes);
    if (!pinned)
        return std::move(pinned.error());
    plan_memory result{shared(std::move(*pinned)), nullptr, bytes};
    if (auto device = make_device_memory(bytes))
        result.device = shared(std::move(*device));
    return result;
}

void plan_store::give_back(plan_memory x) {
    free_.push_back(std::move(x));
}

} // namespace kvferry
