// SPDX-License-Identifier: Apache-2.0
// What the root of a rank is asked: pools, I/O actors, statistics, its stop.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/fabric.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/route.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace kvferry {

/// One region of the host's cache memory.
struct host_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    memory_kind kind = memory_kind::host_private;
    /// For host_shared: the memfd behind it.
    int memfd = -1;
    /// For cuda: which device it lies on; worker::publish finds that out.
    int device = -1;
    /// Owner of the memory: the rank holds it until nobody can write there any more, also after an
    /// unclean stop. Null: the memory is the host's to keep.
    std::shared_ptr<const void> keep = {};
};

struct register_pools {
    std::vector<host_region> regions;
    page_table pages;
};

struct pools_registered {
    rank_info info;
};

/// Some handles may be null: a rank without same-host link, a rank that is not rank 0.
struct adopt_io {
    fabric_actor fabric;
    host_link_actor host_link;
    copy_actor copy;
    info_link_actor info_link;
    rank_info_server_actor server;
    /// "host:port" at which this rank reaches its instance's rank-info server.
    std::string info_endpoint;
    fabric_description described;
    /// Where other instances reach it; empty: at the same endpoint.
    std::string advertised = {};
    /// Where this rank itself answers questions of people; empty: nowhere, or it is rank 0.
    std::vector<std::string> answers_at = {};
};

/// By ordinal. They end with the worker.
struct adopt_devices {
    std::map<int, device_actor> devices;
    /// Host memory through which bytes leave and reach them without a mapping; outlives them.
    std::map<int, host_region> staging = {};
    std::map<int, std::span<std::byte>> landing = {};
};

struct query_rank_info {};

struct rank_info_reply {
    rank_info info;
    /// "host:port" of the instance's rank-info server.
    std::string info_endpoint;
    std::string transports;
    /// One per published region: how writers of this machine will reach it, with the reason for a
    /// worse way than mapped; route::none: nobody reaches it.
    std::vector<taken_route> memory_routes = {};
};

struct query_statistics {};

struct worker_statistics {
    std::uint64_t sessions_opened = 0;
    std::uint64_t sessions_finished = 0;
    std::uint64_t sessions_live = 0;
    /// Sessions with an outcome whose pages are still on loan: no proof yet.
    std::uint64_t sessions_quarantined = 0;
    std::uint64_t links_live = 0;
    /// Messages that changed nothing, by reason ("gone", "stale_incarnation", "duplicate").
    std::map<std::string, std::uint64_t> ignored;
    std::uint64_t handler_failures = 0;
    /// Sessions, links, sender, receiver that ended otherwise than they should.
    std::uint64_t actors_died = 0;
    /// Sessions with an outcome: how many succeeded, and how many failed for which reason.
    std::uint64_t sessions_succeeded = 0;
    std::map<errc, std::uint64_t> sessions_failed = {};
    /// Of those that succeeded, added up: from the opening to the first piece, and from there to
    /// the outcome.
    std::chrono::nanoseconds waited{0};
    std::chrono::nanoseconds transferred{0};
    /// Bytes that siblings have handed on to this rank (limits::relay), and sessions that asked the
    /// context after all.
    std::uint64_t relayed_bytes = 0;
    std::uint64_t relays_given_up = 0;
};

struct stop_worker {
    std::chrono::milliseconds deadline;
};

/// Ends without loss what has begun, before a stop.
struct drain_worker {};

/// `unproven` names the sessions whose memory stays on loan for ever; empty after a clean stop. A
/// host gets errc::not_proven instead of such a list.
struct [[nodiscard]] worker_stopped {
    std::vector<std::string> unproven;
};

} // namespace kvferry
