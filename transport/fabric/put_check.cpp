// SPDX-License-Identifier: Apache-2.0
// The check of a put: bounds of each template once, then of each slot.
#include "transport/fabric/put_check.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <limits>
#include <string>

namespace kvferry {

namespace {

template <class... Args>
caf::error invalid(std::size_t part, fmt::format_string<Args...> why, Args&&... args) {
    return make_error(errc::plan_invalid, "part {} of a put {}", part,
                      fmt::format(why, std::forward<Args>(args)...));
}

/// a * b + plus, for numbers that came from a peer. False when the result would wrap around.
bool multiply_add(std::uint64_t a, std::uint64_t b, std::uint64_t plus, std::uint64_t& result) {
    std::uint64_t product = 0;
    return !__builtin_mul_overflow(a, b, &product)
           && !__builtin_add_overflow(product, plus, &result);
}

/// First byte and one past the last byte of a template inside a target slot.
struct extent {
    std::uint64_t begin = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t end = 0;
};

bool measure(const copy_template& layout, extent& result) {
    for (const auto& x : layout.runs) {
        std::uint64_t last = 0, end = 0;
        if (x.count == 0 || x.bytes == 0
            || !multiply_add(x.target_stride_bytes, x.count - 1, x.target_offset_bytes, last)
            || __builtin_add_overflow(last, x.bytes, &end))
            return false;
        result.begin = std::min(result.begin, x.target_offset_bytes);
        result.end = std::max(result.end, end);
    }
    return !layout.runs.empty();
}

} // namespace

caf::error check_put(const copy_job& job, const find_target_region& find) {
    if (!job.plan)
        return make_error(errc::plan_invalid, "a put without a plan");
    std::size_t number = 0;
    for (const auto& part : job.plan->parts) {
        const auto here = number++;
        if (part.source_pool >= job.source_pools.size()
            || part.target_pool >= job.target_pools.size())
            return invalid(here, "names pools {} -> {} of {} -> {}", part.source_pool,
                           part.target_pool, job.source_pools.size(), job.target_pools.size());
        extent inside;
        if (!part.layout || !measure(*part.layout, inside))
            return invalid(here, "has a template without bytes, or with impossible ones");
        const auto& pool = job.target_pools[part.target_pool];
        auto region = find(pool.region);
        if (!region)
            return std::move(region.error());
        for (const auto& pair : part.slots) {
            std::uint64_t slot = 0, begin = 0, end = 0;
            if (!multiply_add(pool.slot_stride_bytes, pair.target, pool.slot0_address, slot)
                || __builtin_add_overflow(slot, inside.begin, &begin)
                || __builtin_add_overflow(slot, inside.end, &end) || begin < region->base_address
                || end - region->base_address > region->bytes)
                return invalid(here,
                               "writes slot {} of pool {}, outside region {} ({} bytes at {})",
                               pair.target, part.target_pool, pool.region, region->bytes,
                               region->base_address);
        }
    }
    return {};
}

std::vector<std::uint32_t> target_regions(const copy_job& job) {
    std::vector<std::uint32_t> result;
    for (const auto& part : job.plan->parts) {
        auto region = job.target_pools[part.target_pool].region;
        if (std::find(result.begin(), result.end(), region) == result.end())
            result.push_back(region);
    }
    return result;
}

} // namespace kvferry
