// SPDX-License-Identifier: Apache-2.0
// What cuda_io needs of a device: take a plan, copy its units in order, report when they are done;
// share memory with other processes and address theirs.
#pragma once

#include "cuda/kernel/plan_address.hpp"
#include "messages/errors.hpp"
#include "messages/local/device_chunks.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/plan_digest.hpp"
#include "messages/values/rank_info.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// What launches of a plan do with the bytes that they read.
struct copy_manner {
    bool writes = true;
    /// They make a digest, as this share of it.
    std::optional<digest_share> digest = {};
};

/// A plan that the device can read. The host reads `plan`, which lives as long as this object.
/// Destroy it only after every launch of it has ended or the device is lost.
class uploaded_plan {
public:
    uploaded_plan(device_plan_view view, const copy_manner& how) : plan(view), manner(how) {
        if (how.digest)
            digest.emplace().parts.resize(how.digest->part_numbers());
    }
    uploaded_plan(const uploaded_plan&) = delete;
    uploaded_plan& operator=(const uploaded_plan&) = delete;
    virtual ~uploaded_plan() = default;

    const device_plan_view plan;
    const copy_manner manner;
    /// Of what the launches that have ended have read, when it is made.
    std::optional<plan_digest> digest = {};

protected:
    /// The sums of parts of a launch, or of a part of one.
    void add_sums(const std::uint64_t* parts) {
        for (std::size_t at = 0; at < digest->parts.size(); ++at) {
            digest->parts[at] += parts[at];
            digest->sum += at % 2 == 0 ? parts[at] : 0;
        }
    }
};

/// Launches of one lane end in order. Lanes run in parallel, each on multiprocessors of its own.
enum class copy_lane : std::uint8_t {
    /// Chunks of long transfers use two lanes: while the last blocks of one chunk end and the next
    /// one is being launched, the other lane keeps the wire busy.
    bulk = 0,
    other_bulk = 1,
    /// Short transfers: they do not wait for chunks launched before.
    express = 2,
};

inline constexpr std::size_t copy_lane_count = 3;

/// How others reach a region: what they are told, and what passes over a same-host link.
struct exported_region {
    device_export how;
    device_chunks chunks = {};
};

/// One device as an executor of plans. All calls come from one thread, and no call waits.
class copy_device {
public:
    virtual ~copy_device() = default;

    /// Display name: "cuda:0 (NVIDIA H200)".
    virtual const std::string& name() const = 0;

    /// Called once, on the thread that makes all further calls. That thread is not the host's.
    virtual caf::error enter_thread() = 0;

    /// Makes a plan ready for launches, which may follow at once. The job's pools must exist.
    virtual caf::expected<std::unique_ptr<uploaded_plan>> upload(const copy_job&,
                                                                 const copy_manner&) = 0;

    /// Starts to copy units [first_unit, first_unit + unit_count). take_ended() reports `number` at
    /// the end.
    virtual caf::error launch(uploaded_plan&, std::uint64_t first_unit, std::uint64_t unit_count,
                              copy_lane, std::uint64_t number) = 0;

    // -- memory -------------------------------------------------------------------------------

    /// How others reach [base, base + bytes) on this device. registration_failed when it is not
    /// memory of this device. Memory that only this process can use is not an error; the result
    /// then names the obstacle.
    virtual caf::expected<exported_region> export_region(std::byte* base, std::uint64_t bytes) = 0;

    /// The address of a peer's region for launches of this device. `chunks` are those that the peer
    /// has passed on for it. Every success needs one unmap, with its result.
    virtual caf::expected<std::byte*> map(const memory_region&, const device_chunks& chunks) = 0;
    virtual void unmap(const memory_region&, std::byte* address) = 0;

    /// Lets launches use host memory at its own address. Every success needs one unpin.
    virtual caf::error pin(std::byte* base, std::uint64_t bytes) = 0;
    virtual void unpin(std::byte* base) = 0;

    // -- events of the host -------------------------------------------------------------------

    /// Whether the host's event (a cudaEvent_t) has happened.
    virtual caf::expected<bool> has_happened(void* event) = 0;

    /// Makes the event happen when everything launched so far has ended: in this lane, or in all
    /// bulk lanes when it is one of them.
    virtual caf::error record(copy_lane, void* event) = 0;

    // -- ends ---------------------------------------------------------------------------------

    /// Appends the numbers of launches that have ended since the last call; their bytes are visible
    /// at the target. An error means that the device is lost and the state of launches in flight is
    /// unknown.
    virtual caf::error take_ended(std::vector<std::uint64_t>& numbers) = 0;

    /// Why the device is lost; empty while it works.
    virtual caf::error lost() = 0;
};

} // namespace kvferry
