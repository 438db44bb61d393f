// SPDX-License-Identifier: Apache-2.0
// Bounds and once-only checks of a plan.
#include "transport/planner/plan/plan_check.hpp"

#include "messages/local/recycled_containers.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

template <class... Args>
caf::error invalid(fmt::format_string<Args...> what, Args&&... args) {
    return make_error(errc::plan_invalid, fmt::format(what, std::forward<Args>(args)...));
}

/// On overflow the result is the maximum, which exceeds every bound.
std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
    std::uint64_t result;
    return __builtin_add_overflow(a, b, &result) ? std::numeric_limits<std::uint64_t>::max()
                                                 : result;
}

std::uint64_t times(std::uint64_t a, std::uint64_t b) {
    std::uint64_t result;
    return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<std::uint64_t>::max()
                                                 : result;
}

std::uint64_t end_of(std::uint64_t offset, std::uint64_t stride, const run& x) {
    return plus(plus(offset, times(stride, x.count - 1)), x.bytes);
}

std::uint64_t target_end(const copy_template& layout) {
    std::uint64_t result = 0;
    for (const auto& x : layout.runs)
        result = std::max(result, end_of(x.target_offset_bytes, x.target_stride_bytes, x));
    return result;
}

std::uint64_t source_end(const copy_template& layout) {
    std::uint64_t result = 0;
    for (const auto& x : layout.runs)
        result = std::max(result, end_of(x.source_offset_bytes, x.source_stride_bytes, x));
    return result;
}

caf::error check_sums(const copy_plan& plan) {
    std::uint64_t bytes = 0, fragments = 0;
    for (const auto& part : plan.parts) {
        if (!part.layout)
            return invalid("a part without template");
        std::uint64_t part_bytes = 0, part_fragments = 0;
        for (const auto& x : part.layout->runs) {
            if (x.bytes == 0 || x.count == 0)
                return invalid("a run of {} stretches of {} bytes", x.count, x.bytes);
            part_bytes = plus(part_bytes, times(x.bytes, x.count));
            part_fragments = plus(part_fragments, x.count);
        }
        if (part_bytes != part.layout->bytes || part_fragments != part.layout->fragments)
            return invalid("a template says {} bytes in {} fragments, its runs are {} in {}",
                           part.layout->bytes, part.layout->fragments, part_bytes, part_fragments);
        bytes = plus(bytes, times(part_bytes, part.slots.size()));
        fragments = plus(fragments, times(part_fragments, part.slots.size()));
    }
    if (bytes != plan.bytes || fragments != plan.fragments)
        return invalid("the plan says {} bytes in {} fragments, its parts are {} in {}", plan.bytes,
                       plan.fragments, bytes, fragments);
    return {};
}

/// Checks one side of one part: its slots against the pool, its bytes against the region.
caf::error check_bounds(const char* side, std::uint32_t pool_index, std::uint32_t slot_max,
                        std::uint64_t end_in_slot, const page_table& table,
                        const std::vector<memory_region>& regions) {
    const auto where = [&] { return std::string{side} + " pool " + std::to_string(pool_index); };
    if (pool_index >= table.pools.size())
        return invalid("{} of {}", where(), table.pools.size());
    const auto& pool = table.pools[pool_index];
    if (slot_max >= pool.slot_count)
        return invalid("{}: slot {} of {}", where(), static_cast<std::int32_t>(slot_max),
                       pool.slot_count);
    if (pool.region >= regions.size())
        return invalid("{} lies in region {} of {}", where(), pool.region, regions.size());
    const auto end =
        plus(plus(pool.region_offset_bytes, times(pool.slot_stride_bytes, slot_max)), end_in_slot);
    if (end > regions[pool.region].bytes)
        return invalid("{}: slot {} ends at byte {} of region {}, which has {}", where(), slot_max,
                       end, pool.region, regions[pool.region].bytes);
    return {};
}

/// A stretch of one template on its target side.
struct target_stretch {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    /// Index of the part.
    std::size_t part = 0;
};

using part_pair = std::pair<std::size_t, std::size_t>;

/// Parts of one target pool whose templates have a byte in common, as pairs with the smaller index
/// first.
std::set<part_pair> overlapping(const copy_plan& plan, const std::vector<std::size_t>& parts) {
    std::vector<target_stretch> stretches;
    for (auto part : parts)
        for (const auto& x : plan.parts[part].layout->runs)
            for (std::uint64_t index = 0; index < x.count; ++index) {
                const auto begin = x.target_offset_bytes + index * x.target_stride_bytes;
                stretches.push_back({begin, begin + x.bytes, part});
            }
    std::sort(stretches.begin(), stretches.end(),
              [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::set<part_pair> result;
    std::vector<target_stretch> open;
    for (const auto& x : stretches) {
        std::erase_if(open, [&x](const auto& before) { return before.end <= x.begin; });
        for (const auto& before : open)
            result.insert(std::minmax(before.part, x.part));
        open.push_back(x);
    }
    return result;
}

/// Finds a target slot that the parts name twice. Uses a bitmap while that takes little memory per
/// slot, else sorts: slot numbers come from peers, so the largest may be anything.
std::optional<std::uint32_t> duplicate_target(const copy_plan& plan,
                                              std::initializer_list<std::size_t> parts) {
    std::size_t count = 0;
    std::uint64_t largest = 0;
    for (auto part : parts) {
        count += plan.parts[part].slots.size();
        for (const auto& pair : plan.parts[part].slots)
            largest = std::max<std::uint64_t>(largest, pair.target);
    }
    if (count < 2)
        return std::nullopt;
    if (largest / 64 <= count * 16) {
        std::vector<std::uint64_t> marks(largest / 64 + 1);
        for (auto part : parts)
            for (const auto& pair : plan.parts[part].slots) {
                const auto bit = std::uint64_t{1} << (pair.target % 64);
                if (marks[pair.target / 64] & bit)
                    return pair.target;
                marks[pair.target / 64] |= bit;
            }
        return std::nullopt;
    }
    std::vector<std::uint32_t> slots;
    slots.reserve(count);
    for (auto part : parts)
        for (const auto& pair : plan.parts[part].slots)
            slots.push_back(pair.target);
    std::sort(slots.begin(), slots.end());
    const auto found = std::adjacent_find(slots.begin(), slots.end());
    return found == slots.end() ? std::nullopt : std::optional{*found};
}

/// A slot may be the target of several parts as long as their templates fill different bytes.
caf::error check_once(const copy_plan& plan) {
    if (plan.parts.size() == 1 && plan.parts.front().slots.size() < 2)
        return {};
    std::map<std::uint32_t, std::vector<std::size_t>> pools;
    std::set<const void*> seen;
    for (std::size_t index = 0; index < plan.parts.size(); ++index) {
        const auto pool = plan.parts[index].target_pool;
        pools[pool].push_back(index);
        if (!seen.insert(plan.parts[index].slots.key()).second)
            continue; // the list of another part
        if (auto twice = duplicate_target(plan, {index}))
            return invalid("target pool {}: slot {} would be written twice", pool, *twice);
    }
    for (const auto& [pool, parts] : pools) {
        if (parts.size() == 1)
            continue;
        for (auto [first, second] : overlapping(plan, parts))
            if (auto twice = duplicate_target(plan, {first, second}))
                return invalid("target pool {}: slot {} would be written twice, by parts {} and {}",
                               pool, *twice, first, second);
    }
    return {};
}

} // namespace

caf::error check_plan(const copy_plan& plan, const page_table& source,
                      const std::vector<memory_region>& source_regions, const page_table& target,
                      const std::vector<memory_region>& target_regions) {
    if (auto error = check_sums(plan))
        return error;
    recycled_map<const void*, slot_pair> largest; // of each list, however many parts share it
    for (const auto& part : plan.parts) {
        auto [known, fresh] = largest.try_emplace(part.slots.key());
        auto& [source_max, target_max] = known->second;
        if (fresh)
            for (const auto& pair : part.slots) {
                source_max = std::max(source_max, pair.source);
                target_max = std::max(target_max, pair.target);
            }
        if (auto error = check_bounds("source", part.source_pool, source_max,
                                      source_end(*part.layout), source, source_regions))
            return error;
        if (auto error = check_bounds("target", part.target_pool, target_max,
                                      target_end(*part.layout), target, target_regions))
            return error;
    }
    return check_once(plan);
}

} // namespace kvferry
