// SPDX-License-Identifier: Apache-2.0
// One rank inside a host process: the facade of its transfer worker. Thread-safe.
#pragma once

#include "actors/context/route.hpp"
#include "actors/host/session.hpp"
#include "messages/limits.hpp"
#include "messages/local/local_messages.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace kvferry {

class loopback_world;

/// How a rank uses CUDA devices.
struct device_options {
    /// Devices that copy although no pool of the rank lies there: for a rank whose pools are host
    /// memory while its peers' pools are not.
    std::vector<int> also;
    /// Multiprocessors that copies may take from the host's own kernels.
    std::uint32_t multiprocessors = 96;
    /// Devices of peers on this machine read staged bytes where they lie. Off: they are sent, as to
    /// peers of other machines.
    bool share_staging = true;
    /// Tests, without a GPU: memory of kind cuda is host memory that the host twin of a device
    /// copies, and which no peer outside of this process can map.
    bool twins = false;
};

struct worker_options {
    /// Name of the instance (one model replica), the same on all its ranks.
    std::string instance;
    /// This rank's place; the rank index follows from it.
    parallelism layout;
    /// Ranks of the instance; 0: tp_size * pp_size * cp_size.
    std::uint32_t world_size = 0;
    /// Rank 0: where its rank-info server listens. Port 0 picks a free one.
    std::string bind_address = "127.0.0.1";
    std::uint16_t port = 0;
    /// Other ranks: "host:port" of rank 0's server. Rank 0 leaves it empty.
    std::string info_endpoint;
    route_choice route = route_choice::automatic;
    /// Off: peers of this machine are treated like peers of another one.
    bool same_host_link = true;
    limits bounds;
    device_options devices;
    /// Set: no UCX, no sockets, no CUDA; ranks of one process meet in this world (tests,
    /// simulations), where memory of kind cuda is host memory that the host twin of a device
    /// copies.
    std::shared_ptr<loopback_world> world;
    /// Tests: the step of the start that fails, counted from 1; 0: none.
    int fail_at_step = 0;
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

    /// Registers the cache memory and publishes the rank. Blocks, at most limits::info_deadline and
    /// the start of the devices that the memory lies on (a thread and a stream each). After it,
    /// sessions may be opened. The memory stays the host's and must outlive the worker: host
    /// memory, or memory of cudaMalloc on any device of the process.
    caf::expected<rank_info> publish(std::vector<host_region> regions, page_table pages);

    /// Never fails here: what goes wrong is the session's outcome.
    tx_handle open_tx(session_options);
    rx_handle open_rx(session_options, context_address);

    /// "host:port" under which generation ranks find this rank's instance.
    const std::string& info_endpoint() const;

    caf::expected<rank_info_reply> info() const;
    caf::expected<worker_statistics> statistics() const;
    caf::expected<session_list> sessions() const;
    /// Waits so long at most, for whoever looks after a rank that may hang.
    caf::expected<session_list> sessions(list_sessions which,
                                         std::chrono::milliseconds deadline) const;

    /// Cancels all sessions, says goodbye to peers, releases everything. What is not proven quiet
    /// by the deadline is named, and keeps its memory, its mappings and its threads for ever.
    caf::expected<worker_stopped> stop(std::chrono::milliseconds deadline);

    /// Typed handle, for hosts that are actor systems.
    transfer_worker_actor actor() const;

private:
    struct parts;
    explicit worker(std::shared_ptr<parts>);

    std::shared_ptr<parts> parts_;
};

} // namespace kvferry
