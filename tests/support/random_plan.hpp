// SPDX-License-Identifier: Apache-2.0
// Random copy plans over memory of known size, and what they must do, by the plan's own definition.
#pragma once

#include "transport/planner/plan/plan_expand.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

namespace kvferry::testing {

/// A plan with pools at offsets from two bases. No target byte is written twice.
struct plan_sample {
    std::shared_ptr<copy_plan> plan = std::make_shared<copy_plan>();
    std::vector<pool_base> source_offsets;
    std::vector<pool_base> target_offsets;
    std::uint64_t source_bytes = 0;
    std::uint64_t target_bytes = 0;

    copy_job job(std::uint64_t source_address, std::uint64_t target_address) const {
        copy_job result{plan, source_offsets, target_offsets, {}};
        for (auto& pool : result.source_pools)
            pool.slot0_address += source_address;
        for (auto& pool : result.target_pools)
            pool.slot0_address += target_address;
        return result;
    }

    /// The target's content afterwards.
    std::vector<std::byte> applied(const std::vector<std::byte>& source,
                                   std::vector<std::byte> target) const {
        expand(job(0, 0), [&](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
            std::memcpy(target.data() + to, source.data() + from, bytes);
        });
        return target;
    }
};

inline std::vector<std::byte> random_bytes(std::size_t count, std::uint32_t seed) {
    std::vector<std::byte> result(count);
    for (auto& x : result) {
        seed = seed * 1664525u + 1013904223u;
        x = std::byte(seed >> 24);
    }
    return result;
}

class random_plans {
public:
    explicit random_plans(std::uint32_t seed) : random_(seed) {}

    /// A few hundred KiB in one to three parts. In a third of them everything is a multiple of 16,
    /// in a third of another power of two, and a third is skewed by any number of bytes.
    plan_sample next() {
        plan_sample sample;
        const std::uint64_t grain = std::uint64_t{1} << (below(3) == 0 ? 4 : below(5));
        const bool skewed = below(3) == 0;
        const auto parts = 1 + below(3);
        for (std::uint32_t number = 0; number < parts; ++number)
            add_part(sample, number, grain, skewed);
        return sample;
    }

    std::uint32_t below(std::uint64_t bound) {
        return static_cast<std::uint32_t>(random_() % bound);
    }

private:
    std::uint64_t size(std::uint64_t grain) {
        static constexpr std::uint64_t sizes[] = {1,    2,    16,   63,   64,    97,
                                                  128,  256,  512,  576,  999,   1024,
                                                  4096, 4097, 5000, 9216, 16388, 73728};
        const auto bytes = sizes[below(std::size(sizes))];
        return (bytes + grain - 1) / grain * grain;
    }

    void add_part(plan_sample& sample, std::uint32_t number, std::uint64_t grain, bool skewed) {
        auto layout = std::make_shared<copy_template>();
        std::uint64_t target_end = 0, source_end = 0;
        for (auto runs = 1 + below(5); runs > 0; --runs) {
            run x;
            x.bytes = size(grain);
            x.count = below(2) == 0 ? 1 : 1 + below(40);
            if (x.bytes * x.count > 20000)
                x.count = 1;
            x.target_offset_bytes = target_end + below(3) * grain;
            x.target_stride_bytes = x.bytes + below(3) * grain;
            x.source_offset_bytes = below(200) * grain;
            x.source_stride_bytes = below(2) == 0 ? x.bytes : below(100) * grain;
            const auto last = x.count - 1;
            target_end = x.target_offset_bytes + last * x.target_stride_bytes + x.bytes;
            source_end = std::max(source_end,
                                  x.source_offset_bytes + last * x.source_stride_bytes + x.bytes);
            layout->bytes += x.bytes * x.count;
            layout->fragments += x.count;
            layout->runs.push_back(x);
        }
        const std::uint32_t slots = 1 + below(6);
        plan_part part{number, number, layout, {}};
        std::vector<std::uint32_t> targets(slots + 3);
        std::iota(targets.begin(), targets.end(), 0u);
        std::shuffle(targets.begin(), targets.end(), random_);
        for (std::uint32_t slot = 0; slot < slots; ++slot)
            part.slots.push_back({below(slots), targets[slot]});
        const auto add_pool = [&](std::vector<pool_base>& pools, std::uint64_t& total,
                                  std::uint64_t end, std::uint64_t count) {
            const auto stride = (end + grain - 1) / grain * grain + below(3) * grain;
            const auto first = (total + 15) / 16 * 16 + (skewed ? below(16) : 0);
            pools.push_back({first, stride, 0});
            total = first + count * stride;
        };
        add_pool(sample.source_offsets, sample.source_bytes, source_end, slots);
        add_pool(sample.target_offsets, sample.target_bytes, target_end, targets.size());
        sample.plan->bytes += layout->bytes * slots;
        sample.plan->fragments += layout->fragments * slots;
        sample.plan->parts.push_back(std::move(part));
    }

    std::mt19937 random_;
};

/// `pairs` slots of one fragment each, in a random order on both sides.
inline plan_sample shuffled_fragments(std::uint32_t pairs, std::uint64_t bytes,
                                      std::uint32_t seed = 1) {
    plan_sample sample;
    auto layout = std::make_shared<copy_template>();
    layout->runs.push_back({0, 0, bytes, 1, 0, 0});
    layout->bytes = bytes;
    layout->fragments = 1;
    plan_part part{0, 0, layout, {}};
    std::vector<std::uint32_t> sources(pairs), targets(pairs);
    std::iota(sources.begin(), sources.end(), 0u);
    std::iota(targets.begin(), targets.end(), 0u);
    std::mt19937 random{seed};
    std::shuffle(sources.begin(), sources.end(), random);
    std::shuffle(targets.begin(), targets.end(), random);
    for (std::uint32_t index = 0; index < pairs; ++index)
        part.slots.push_back({sources[index], targets[index]});
    sample.plan->parts.push_back(std::move(part));
    sample.plan->bytes = sample.source_bytes = sample.target_bytes = pairs * bytes;
    sample.plan->fragments = pairs;
    sample.source_offsets = sample.target_offsets = {{0, bytes, 0}};
    return sample;
}

} // namespace kvferry::testing
