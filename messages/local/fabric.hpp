// SPDX-License-Identifier: Apache-2.0
// What the fabric is asked and what it tells: endpoints, frames, puts, regions.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"

#include <caf/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kvferry {

/// `regions` are the peer's, with access keys, in its own order; empty when nothing is put there.
struct open_endpoint {
    incarnation peer;
    byte_buffer fabric_address;
    std::vector<memory_region> regions;
    frame_sink_actor owner;
};

struct endpoint_opened {
    endpoint_id endpoint;
    /// Puts over it go by RMA hardware, whose late writes nobody can fence.
    bool by_rma = false;
};

/// Memory of the peer that this process has mapped: its puts into memory on a device here may be
/// read from there instead of being sent. Let go of with the endpoint.
struct peer_memory_mapped {
    endpoint_id endpoint;
    std::vector<mapped_region> regions;
};

/// The peer's regions, learned after the endpoint was opened without any; puts that are under way
/// keep what they have. Ignored when the endpoint has regions already.
struct peer_regions_offered {
    endpoint_id endpoint;
    std::vector<memory_region> regions;
};

/// Told once per endpoint, by an error on the way or after close_endpoint by force.
struct endpoint_failed {
    endpoint_id endpoint;
    incarnation peer;
    caf::error reason;
};

struct send_frame {
    static constexpr bool leaves_rank = true;

    endpoint_id endpoint;
    byte_buffer frame;
};

struct frame_arrived {
    byte_buffer frame;
};

/// Longest start_put::report.
inline constexpr std::size_t put_report_bytes_max = 4096;

/// `job.target_pools` hold addresses of the peer; `region` picks the access key.
struct start_put {
    static constexpr bool leaves_rank = true;

    transfer_id id;
    endpoint_id endpoint;
    copy_job job;
    completion_actor reply_to;
    /// For puts out of memory on a device only.
    device_events events = {};
    /// For whose pages: the target lets nothing in for an attempt that it has forbidden.
    kvferry::attempt attempt = {};
    /// A frame that the peer's rank gets when all bytes are visible there, before this rank knows
    /// that they are; when the put succeeds, the peer has it. Not for puts by RMA.
    byte_buffer report = {};
    flow of = {};
    /// Each message says the sums of its bytes. Only to peers that can (capability::put_sums): they
    /// refuse a put of which a byte differs, with errc::digest_mismatch.
    bool sums = false;
};

struct close_endpoint {
    endpoint_id endpoint;
    /// Do not wait for the peer.
    bool force = false;
};

struct register_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    memory_kind kind = memory_kind::host_private;
    /// For memory on a device: who copies into it, and the host memory from where. Without them
    /// no put reaches that memory. Regions that share a device share its staging memory.
    device_actor copier = {};
    std::span<std::byte> staging = {};
    /// Puts by message reach it only for an attempt that is allowed at the time (allow_writes).
    bool by_attempt = false;
};

struct region_registered {
    region_id region;
    /// Empty: puts cannot reach that memory, only other routes can.
    byte_buffer access_key;
};

struct unregister_region {
    region_id region;
};

struct describe_fabric {};

struct fabric_description {
    byte_buffer address;
    /// "tcp, cma" or "loopback".
    std::string transports;
    /// Only this rank's own threads write into its regions: what a peer puts there is placed here, or
    /// refused. False: hardware may write as well, and forbid_writes proves nothing.
    bool by_message = false;
};

/// `peer` is dead or has left: nothing of it that is still on its way is let in any more.
struct drain_fabric {
    incarnation peer;
};

/// From here on puts of this attempt may write. Attempts are random numbers: none is allowed twice.
struct allow_writes {
    static constexpr bool leaves_rank = true; // ahead of the request that it is for

    kvferry::attempt attempt;
    priority urgency = priority::normal;
};

/// The attempt is over. Nothing that was or will be put for it by message is let in any more,
/// whoever sends it and over whichever link.
struct forbid_writes {
    kvferry::attempt attempt;
};

/// The rank ends, in order or not: nothing is let in by message any more, into no region and no
/// staging memory.
struct forbid_all_writes {};

} // namespace kvferry
