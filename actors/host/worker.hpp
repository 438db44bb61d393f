// SPDX-License-Identifier: Apache-2.0
// One rank inside a host process: the facade of its transfer worker. Thread-safe.
#pragma once

#include "actors/host/session.hpp"
#include "actors/shared/route_choice.hpp"
#include "messages/limits.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

class loopback_world;

/// How a rank uses CUDA devices.
struct device_options {
    /// Devices that copy although the rank has no pool there: for a rank with pools in host memory
    /// whose peers have theirs on devices.
    std::vector<int> also;
    /// Multiprocessors that copies may take from the host's own kernels.
    std::uint32_t multiprocessors = 96;
    /// On: devices of peers on this machine read staged bytes in place. Off: the bytes are sent, as
    /// to peers on other machines.
    bool share_staging = true;
    /// For tests without a GPU: memory of kind cuda is host memory, copied by the host twin of a
    /// device. Only peers in this process can map it.
    bool twins = false;
};

struct worker_options {
    /// Name of the instance (one model replica), the same on all its ranks.
    std::string instance;
    /// This rank's place; the rank index follows from it.
    parallelism layout;
    /// Ranks of the instance; 0: tp_size * pp_size * cp_size.
    std::uint32_t world_size = 0;
    /// Rank 0: where its rank-info server listens; empty: 127.0.0.1, for peers on this machine.
    /// Port 0 picks a free one. Every rank: UCX is held to the network device that has this
    /// address.
    std::string bind_address;
    std::uint16_t port = 0;
    /// Other ranks: "host:port" of rank 0's server. Rank 0 leaves it empty.
    std::string info_endpoint;
    /// What bytes cannot show: model, revision, element types, kernels. Peers with another text are
    /// refused with both values (limits::fingerprint_bytes_max); empty: not compared.
    std::string fingerprint;
    route_choice route = route_choice::automatic;
    /// Off: peers on this machine are treated like peers on another one.
    bool same_host_link = true;
    /// A folder (absolute path) where the same-host socket is also offered as a file: for
    /// containers that share a volume but not a network namespace. Empty: none.
    std::string host_link_folder;
    limits bounds;
    device_options devices;
    /// For tests and simulations. When set, ranks of one process meet in this world, without UCX,
    /// sockets and CUDA. Memory of kind cuda is then host memory, copied by the host twin of a
    /// device.
    std::shared_ptr<loopback_world> world;
    /// For tests: the step of the start that fails, counted from 1; 0: all succeed.
    int fail_at_step = 0;
    /// Name or address under which others reach this rank when it is not `bind_address`: needed
    /// when that is a wildcard, or behind a router. ":port" may follow where the port differs, too.
    /// UCX is held to the network device that has this address.
    std::string advertise;
};

/// A running rank. Destroying it without stop() runs a stop bounded by limits::stop_deadline.
class worker {
public:
    /// Starts threads and actors of the rank on a prepared actor system. On failure nothing is
    /// left behind. unsupported: the system was not prepared with kvferry::configure.
    static caf::expected<worker> start(caf::actor_system&, worker_options);

    worker(worker&&) noexcept;
    worker& operator=(worker&&) noexcept;
    ~worker();

    /// Registers the cache memory and publishes the rank. Blocks, at most twice
    /// limits::info_deadline plus the start of the devices that the memory lies on (a thread and a
    /// stream each). Sessions may be opened afterwards. The memory (host memory, or memory of
    /// cudaMalloc on any device of the process) must outlive the worker: by host_region::keep, or
    /// because the host sees to it. registration_failed for a
    /// host_shared region whose memfd is not sealed against shrinking.
    caf::expected<rank_info> publish(std::vector<host_region> regions, page_table pages);

    /// Never fails here: a failure is the session's outcome.
    tx_handle open_tx(session_options);
    rx_handle open_rx(session_options, context_address);

    /// "host:port" under which generation ranks find this rank's instance.
    const std::string& info_endpoint() const;

    caf::expected<rank_info_reply> info() const;
    caf::expected<worker_statistics> statistics() const;
    caf::expected<session_list> sessions() const;
    /// Waits at most `deadline`; for watchdogs of a rank that may hang.
    caf::expected<session_list> sessions(list_sessions which,
                                         std::chrono::milliseconds deadline) const;

    /// Cancels all sessions, says goodbye to peers, releases everything. What is not proven quiet
    /// by the deadline is named, and keeps its memory, its mappings and its threads for ever. Also
    /// then nothing that peers send lands in the rank's memory after this call or the destructor;
    /// what they may write by other means is named (worker_stopped::at_risk).
    caf::expected<worker_stopped> stop(std::chrono::milliseconds deadline);

    /// Typed handle, for hosts that are actor systems.
    transfer_worker_actor actor() const;

private:
    struct parts;
    explicit worker(std::shared_ptr<parts>);

    std::shared_ptr<parts> parts_;
};

} // namespace kvferry
