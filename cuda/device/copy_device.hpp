// SPDX-License-Identifier: Apache-2.0
// What cuda_io needs of a device: take a plan, copy units of it in order, say when they are done;
// share memory with other processes and address theirs.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "messages/errors.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

/// A plan in the device's reach. `plan` is read by the host; it lives until the object goes, which
/// must not be before every launch of it has ended or the device is lost.
class uploaded_plan {
public:
    explicit uploaded_plan(device_plan_view view) : plan(view) {}
    uploaded_plan(const uploaded_plan&) = delete;
    uploaded_plan& operator=(const uploaded_plan&) = delete;
    virtual ~uploaded_plan() = default;

    const device_plan_view plan;
};

/// Launches of one lane end in order; lanes run beside one another, each on multiprocessors of its
/// own.
enum class copy_lane : std::uint8_t {
    /// What is cut into chunks. Two lanes: while the last blocks of one chunk end, and the next one
    /// is being launched, the other's keep the wire busy.
    bulk = 0,
    other_bulk = 1,
    /// What is short: it does not wait for chunks that were launched before.
    express = 2,
};

inline constexpr std::size_t copy_lane_count = 3;

/// One device as an executor of plans. All calls come from one thread and none of them waits.
class copy_device {
public:
    virtual ~copy_device() = default;

    /// For people: "cuda:0 (NVIDIA H200)".
    virtual const std::string& name() const = 0;

    /// Told once, on the thread that makes all further calls.
    virtual caf::error enter_thread() = 0;

    /// Makes a plan ready for launches, which may follow at once. The job's pools are known to
    /// exist.
    virtual caf::expected<std::unique_ptr<uploaded_plan>> upload(const copy_job&) = 0;

    /// Starts to copy units [first_unit, first_unit + unit_count) under a number that take_ended()
    /// tells again.
    virtual caf::error launch(uploaded_plan&, std::uint64_t first_unit, std::uint64_t unit_count,
                              copy_lane, std::uint64_t number) = 0;

    // -- memory -------------------------------------------------------------------------------

    /// How others reach [base, base + bytes) on this device. registration_failed when that is no
    /// memory of this device; memory that only this process can use is no error but an obstacle in
    /// the result.
    virtual caf::expected<device_export> export_region(std::byte* base, std::uint64_t bytes) = 0;

    /// Where launches of this device find a peer's region on a device. Every success is undone by
    /// one unmap.
    virtual caf::expected<std::byte*> map(const memory_region&) = 0;
    virtual void unmap(const memory_region&) = 0;

    /// Lets launches address host memory, under its own address. Every success is undone by one
    /// unpin.
    virtual caf::error pin(std::byte* base, std::uint64_t bytes) = 0;
    virtual void unpin(std::byte* base) = 0;

    // -- events of the host -------------------------------------------------------------------

    /// Whether the host's event (a cudaEvent_t) has happened.
    virtual caf::expected<bool> has_happened(void* event) = 0;

    /// Makes the event happen when everything launched so far in this lane, or in all bulk lanes
    /// when it is one of them, has ended.
    virtual caf::error record(copy_lane, void* event) = 0;

    // -- ends ---------------------------------------------------------------------------------

    /// Appends the numbers of launches that have ended since the last call; their bytes are visible
    /// at the target. An error: the device is lost, and nothing can be said of what was in flight.
    virtual caf::error take_ended(std::vector<std::uint64_t>& numbers) = 0;

    /// Why the device is of no use any more; empty while it is.
    virtual caf::error lost() = 0;
};

} // namespace kvferry
