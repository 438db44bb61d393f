// SPDX-License-Identifier: Apache-2.0
// Runs the threads of a launch one after the other.
#include "cuda/device/host_copy_device.hpp"

#include "cuda/device/process_number.hpp"
#include "cuda/kernel/copy_unit.hpp"
#include "cuda/kernel/flat_plan.hpp"

#include <atomic>
#include <vector>

namespace kvferry {

namespace {

/// A small grid: large enough to use all of the kernel's arithmetic.
constexpr std::uint32_t warps = 3;
constexpr std::uint32_t lanes = 4;

struct plan_on_host : uploaded_plan {
    plan_on_host(device_plan_view view, const copy_manner& how,
                 std::unique_ptr<std::uint64_t[]> memory)
        : uploaded_plan(view, how), memory(std::move(memory)) {}

    template <bool Writes, class Sums>
    void run(std::uint64_t first_unit, std::uint64_t end_unit, Sums& sums) {
        for (std::uint32_t warp = 0; warp < warps; ++warp)
            for (std::uint32_t lane = 0; lane < lanes; ++lane)
                copy_share<Writes>(plan, first_unit, end_unit, warp, warps, lane, lanes, sums);
    }

    void run(std::uint64_t first_unit, std::uint64_t end_unit) {
        if (!digest) {
            no_sums none;
            return run<true>(first_unit, end_unit, none);
        }
        std::vector<std::uint64_t> parts(digest->parts.size());
        thread_sums sums{{parts.data(), manner.digest->first_pair, shift_of(*manner.digest)}};
        if (manner.writes)
            run<true>(first_unit, end_unit, sums);
        else
            run<false>(first_unit, end_unit, sums);
        sums.flush();
        add_sums(parts.data());
    }

    std::unique_ptr<std::uint64_t[]> memory;
};

void set(void* event) {
    static_cast<std::atomic<bool>*>(event)->store(true);
}

} // namespace

caf::expected<std::unique_ptr<uploaded_plan>> host_copy_device::upload(const copy_job& job,
                                                                       const copy_manner& how) {
    auto memory =
        std::make_unique<std::uint64_t[]>(measure(job).bytes() / sizeof(std::uint64_t) + 1);
    auto view = flatten(job, reinterpret_cast<std::byte*>(memory.get()));
    return std::unique_ptr<uploaded_plan>{
        std::make_unique<plan_on_host>(view, how, std::move(memory))};
}

caf::error host_copy_device::launch(uploaded_plan& plan, std::uint64_t first_unit,
                                    std::uint64_t unit_count, copy_lane, std::uint64_t number) {
    launched_.push_back({&plan, first_unit, first_unit + unit_count, number, {}});
    return {};
}

caf::error host_copy_device::take_ended(std::vector<std::uint64_t>& numbers) {
    if (launched_.empty())
        return {};
    const auto x = launched_.front();
    launched_.pop_front();
    static_cast<plan_on_host*>(x.plan)->run(x.first_unit, x.end_unit);
    for (auto* event : x.events)
        set(event);
    numbers.push_back(x.number);
    return {};
}

caf::expected<exported_region> host_copy_device::export_region(std::byte* base, std::uint64_t) {
    if (!base)
        return make_error(errc::registration_failed, "no memory at address 0");
    return exported_region{{process_number(), name_, {}, 0, {}}};
}

caf::expected<std::byte*> host_copy_device::map(const memory_region& region, const device_chunks&) {
    if (region.on_device.process != process_number())
        return make_error(errc::unsupported, "the host twin maps memory of its own process only");
    return reinterpret_cast<std::byte*>(region.base_address);
}

caf::expected<bool> host_copy_device::has_happened(void* event) {
    return static_cast<const std::atomic<bool>*>(event)->load();
}

caf::error host_copy_device::record(copy_lane, void* event) {
    if (launched_.empty())
        set(event);
    else
        launched_.back().events.push_back(event);
    return {};
}

} // namespace kvferry
