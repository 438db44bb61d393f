// SPDX-License-Identifier: Apache-2.0
// What a rank publishes about itself: who it is, how its instance is split, what it holds, where
// it can be reached.
#pragma once

#include "messages/inspect_enum.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/shared_optional.hpp"

#include <caf/byte_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

/// Bytes as CAF's serializers take them (std::byte from CAF 1.0 on).
using byte_buffer = caf::byte_buffer;

/// Place of a rank in its instance. rank = pp_rank * tp_size * cp_size + tp_rank * cp_size +
/// cp_rank.
struct parallelism {
    std::uint32_t tp_size = 1;
    std::uint32_t tp_rank = 0;
    std::uint32_t pp_size = 1;
    std::uint32_t pp_rank = 0;
    std::uint32_t cp_size = 1;
    std::uint32_t cp_rank = 0;
    /// Attention data parallelism: attention weights replicated, requests split over groups of TP
    /// ranks.
    bool attention_dp = false;
    /// Layers on each pipeline stage; its length is pp_size.
    std::vector<std::uint32_t> layers_per_stage;
    /// Under attention DP: consecutive TP ranks that share the heads of one request.
    std::uint32_t attention_tp_size = 1;

    friend bool operator==(const parallelism&, const parallelism&) = default;
};

/// What memory a region is made of, hence how a peer may reach it.
enum class memory_kind : std::uint8_t {
    /// memfd that kvferry made: a same-host peer maps it.
    host_shared = 0,
    /// Memory of the host process: reached through the fabric only.
    host_private = 1,
    /// Memory of a CUDA device: peers of the machine map it, unless it cannot be exported.
    cuda = 2,
};

/// How memory on a device is reached from outside the worker that owns it; unused for host memory.
struct device_export {
    /// Random number that the owner's process draws once; memory of the same process needs no
    /// mapping.
    std::uint64_t process = 0;
    /// "GPU-5b8c..." as the driver names it, the same in every process.
    std::string device;
    /// CUDA IPC handle of the allocation; empty: see obstacle.
    byte_buffer handle;
    /// From the allocation's first byte to the region's.
    std::uint64_t offset_bytes = 0;
    /// Why the allocation cannot be exported to another process.
    std::string obstacle;

    friend bool operator==(const device_export&, const device_export&) = default;
};

/// One registered stretch of a rank's memory, in the form in which peers are told about it.
struct memory_region {
    /// Address in the owner's address space; remote writes name addresses relative to it.
    std::uint64_t base_address = 0;
    std::uint64_t bytes = 0;
    memory_kind kind = memory_kind::host_shared;
    /// The fabric's packed access key.
    byte_buffer access_key;
    /// For memory_kind::cuda.
    device_export on_device = {};

    friend bool operator==(const memory_region&, const memory_region&) = default;
};

/// What a rank accepts from its peers (the part of `limits` that concerns them).
struct rank_limits {
    std::uint64_t message_bytes_max = 0;
    std::uint64_t aux_bytes_max = 0;
    std::uint64_t blocks_per_slice_max = 0;

    friend bool operator==(const rank_limits&, const rank_limits&) = default;
};

/// What a rank can do beyond its protocol version, as bits; a link has what both its ranks can.
namespace capability {
/// Skips messages that it does not know: it may be told what it need not understand.
inline constexpr std::uint64_t optional_messages = 1;
/// Waits for receivers whose bytes come from a sibling (request_data::relayed).
inline constexpr std::uint64_t relayed_requests = 2;
/// Hands on to its siblings what it receives, and lets them hand on to it (limits::relay).
inline constexpr std::uint64_t relays = 4;
/// Says, and compares, sums of the bytes of puts by message (start_put::sums).
inline constexpr std::uint64_t put_sums = 16;
/// Sends single views of what it has (request_data::views), and says what its pieces were about
/// (request_data::tell_extents).
inline constexpr std::uint64_t parts = 8;
/// Takes requests right behind an introduction, before it has answered that.
inline constexpr std::uint64_t early_requests = 32;
} // namespace capability

/// Of a rank that does not say which version it speaks.
inline constexpr std::uint16_t unsaid_protocol = 6;

/// Published by every rank; the instance's rank-info server hands out all of them together.
struct rank_info {
    /// Name of the instance (one model replica).
    std::string instance;
    rank_id rank;
    std::uint32_t world_size = 1;
    kvferry::incarnation incarnation;
    parallelism layout;
    /// Missing until the host has registered its pools; a transfer without it is refused.
    shared_optional<page_table> pages;
    rank_limits accepts;
    /// Address of the rank's fabric worker.
    byte_buffer fabric_address;
    /// Boot id of the machine; equal boot ids make the same-host link worth a try.
    std::string machine;
    /// Name of the rank's same-host socket; empty: it has none.
    std::string host_link_name;
    /// A dialler must show this in register_rank_info.
    link_token token;
    /// What bytes cannot show: model, revision, element types, kernels, as the host names them.
    /// Ranks whose fingerprints differ do not transfer to each other; empty: not compared.
    std::string fingerprint = {};
    /// Newest version of the messages between ranks that it speaks.
    std::uint16_t protocol = unsaid_protocol;
    std::uint64_t capabilities = 0;

    friend bool operator==(const rank_info&, const rank_info&) = default;
};

std::string to_string(memory_kind);

/// "name/3" for logs and errors.
std::string describe(const rank_info&);

template <class Inspector>
bool inspect(Inspector& f, parallelism& x) {
    return f.object(x).fields(
        f.field("tp_size", x.tp_size), f.field("tp_rank", x.tp_rank), f.field("pp_size", x.pp_size),
        f.field("pp_rank", x.pp_rank), f.field("cp_size", x.cp_size), f.field("cp_rank", x.cp_rank),
        f.field("attention_dp", x.attention_dp), f.field("layers_per_stage", x.layers_per_stage),
        f.field("attention_tp_size", x.attention_tp_size));
}

template <class Inspector>
bool inspect(Inspector& f, memory_kind& x) {
    return inspect_enum(f, x, memory_kind::cuda);
}

template <class Inspector>
bool inspect(Inspector& f, device_export& x) {
    return f.object(x).fields(f.field("process", x.process), f.field("device", x.device),
                              f.field("handle", x.handle), f.field("offset_bytes", x.offset_bytes),
                              f.field("obstacle", x.obstacle));
}

template <class Inspector>
bool inspect(Inspector& f, memory_region& x) {
    return f.object(x).fields(f.field("base_address", x.base_address), f.field("bytes", x.bytes),
                              f.field("kind", x.kind), f.field("access_key", x.access_key),
                              f.field("on_device", x.on_device));
}

template <class Inspector>
bool inspect(Inspector& f, rank_limits& x) {
    return f.object(x).fields(f.field("message_bytes_max", x.message_bytes_max),
                              f.field("aux_bytes_max", x.aux_bytes_max),
                              f.field("blocks_per_slice_max", x.blocks_per_slice_max));
}

template <class Inspector>
bool inspect(Inspector& f, rank_info& x) {
    return f.object(x).fields(
        f.field("instance", x.instance), f.field("rank", x.rank),
        f.field("world_size", x.world_size), f.field("incarnation", x.incarnation),
        f.field("layout", x.layout), f.field("pages", x.pages), f.field("accepts", x.accepts),
        f.field("fabric_address", x.fabric_address), f.field("machine", x.machine),
        f.field("host_link_name", x.host_link_name), f.field("token", x.token),
        f.field("fingerprint", x.fingerprint), f.field("protocol", x.protocol),
        f.field("capabilities", x.capabilities));
}

} // namespace kvferry
