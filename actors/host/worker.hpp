// SPDX-License-Identifier: Apache-2.0
// One rank inside a host process: the facade of its transfer worker. Thread-safe.
#pragma once

#include "actors/discovery/directory_options.hpp"
#include "actors/host/session.hpp"
#include "actors/shared/route_choice.hpp"
#include "actors/shared/wire_choice.hpp"
#include "messages/limits.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/instance_listing.hpp"
#include "messages/values/page_table.hpp"
#include "messages/values/rank_info.hpp"
#include "transport/secure/security_options.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace kvferry {

class loopback_world;

/// How a rank uses CUDA devices.
struct device_options {
    /// Devices that copy although the rank has no pool there: for a rank with pools in host memory
    /// whose peers have theirs on devices.
    std::vector<int> also;
    /// Multiprocessors that copies may take from the host's own kernels. More of them make a single
    /// long transfer faster, and computing beside it slower (cuda/MEASURED.md).
    std::uint32_t multiprocessors = 32;
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
    std::string bind_address = {};
    std::uint16_t port = 0;
    /// Other ranks: "host:port" of rank 0's server. Rank 0 leaves it empty.
    std::string info_endpoint = {};
    /// Off: no rank-info server and no port. The host carries the infos of ranks over a channel of
    /// its own (worker::local_info, add_instance), also among the ranks of this instance; then all
    /// leave info_endpoint empty. Peers with servers are reached all the same.
    bool info_server = true;
    /// What bytes cannot show: model, revision, element types, kernels. Peers with another text are
    /// refused with both values (limits::fingerprint_bytes_max); empty: not compared.
    std::string fingerprint = {};
    route_choice route = route_choice::automatic;
    /// Off: peers on this machine are treated like peers on another one.
    bool same_host_link = true;
    /// A folder (absolute path) where the same-host socket is also offered as a file: for
    /// containers that share a volume but not a network namespace. Empty: none.
    std::string host_link_folder = {};
    limits bounds = {};
    device_options devices = {};
    /// Threads that copy between host memory; 0: one for every four processors, at most 8.
    std::uint32_t copy_threads = 0;
    /// For tests and simulations. When set, ranks of one process meet in this world, without UCX,
    /// sockets and CUDA. Memory of kind cuda is then host memory, copied by the host twin of a
    /// device.
    std::shared_ptr<loopback_world> world = {};
    /// For tests: the step of the start that fails, counted from 1; 0: all succeed.
    int fail_at_step = 0;
    /// Name or address under which others reach this rank when it is not `bind_address`: needed
    /// when that is a wildcard, or behind a router. ":port" may follow where the port differs, too.
    /// UCX is held to the network device that has this address.
    std::string advertise = {};
    /// What carries messages, and the bytes that no mapping carries. Both sides of a link must have
    /// one in common.
    wire_choice wire = wire_choice::automatic;
    /// Threads that move the bytes of puts over the tcp wire; 1: the rank's own thread does it; 0:
    /// as many as copy, and twice as many of those that encrypt.
    std::uint32_t tcp_threads = 0;
    /// Sockets of the tcp wire for the bytes of puts to one peer; 0: one for each of these threads,
    /// at most 4, or 8 that encrypt.
    std::size_t bulk_sockets = 0;
    /// "host:port" where this process shows /metrics (for Prometheus), /livez and /readyz over
    /// HTTP; all its ranks share one listener. Port 0 picks a free one. Whoever reaches it can read
    /// it: 127.0.0.1 or a private interface. Empty: where KVFERRY_METRICS says, else nowhere.
    std::string metrics = {};
    /// Who may talk to this rank; foreign_peer at its start when an address above is reached from
    /// other machines and it says nothing.
    security_options security = {};
    /// Where instances are listed by name. Rank 0 lists its instance there, and every rank may be
    /// given "etcd:name" as context_address::endpoint. While it is away running transfers go on,
    /// names that are known stay known, and others wait until limits::info_deadline.
    directory_options directory = {};
    /// What the instance is listed for.
    instance_role role = instance_role::any;
    /// Names the machine; empty: the kernel's boot id. Ranks that name different ones are far from
    /// each other: no mappings, no same-host link, one copy of replicated KV (limits::relay).
    std::string machine = {};
    /// "http://host:port" of a collector of OpenTelemetry (OTLP over HTTP), which gets a span for
    /// every session that ends; all ranks of a process share one sender, which never delays them.
    /// Empty: where KVFERRY_SPANS says, else nowhere.
    std::string spans = {};
};

/// A running rank. Destroying it without stop() runs a stop bounded by limits::stop_deadline, then
/// waits as long for callbacks that have not returned, unless a callback destroys it. A worker that
/// has stopped or was moved away, and every worker in a forked child, answers each call with an
/// error.
class worker {
public:
    /// Starts threads and actors of the rank on a prepared actor system. On failure nothing is
    /// left behind. unsupported: the system was not prepared with kvferry::configure.
    static caf::expected<worker> start(caf::actor_system&, worker_options);

    worker(worker&&) noexcept;
    worker& operator=(worker&&) noexcept;
    ~worker();

    /// Registers the cache memory and publishes the rank. Blocks, at most twice
    /// limits::info_deadline plus the start of the devices that the memory lies on (a thread, a
    /// stream each, and 8 MiB on the device). Sessions may be opened afterwards. The memory (of the
    /// host, or of any device of the process: of cudaMalloc, or made of chunks) must outlive the
    /// worker or be withdrawn: by host_region::keep, or because the host sees to it.
    /// registration_failed for a host_shared region whose memfd is not sealed against shrinking.
    caf::expected<rank_info> publish(std::vector<host_region> regions, page_table pages);

    /// Takes the published memory back, so that it may be freed, resized or used otherwise; then
    /// publish() may be called again, with other regions and another page table. Blocks until no
    /// session is left: deadline_exceeded names one that is, and nothing has changed then. Peers
    /// hear a goodbye and ask anew, because the rank goes on as another incarnation; endpoint,
    /// counters and threads stay. not_proven as in stop(); after any other error but
    /// deadline_exceeded the worker has stopped.
    [[nodiscard]] caf::error unpublish(std::chrono::milliseconds deadline);

    /// Makes the links to the context ranks that this rank receives from, and the mappings of their
    /// memory, before the first request has to wait for them. Blocks until they are ready.
    [[nodiscard]] caf::error connect(const context_address& context,
                                     std::chrono::milliseconds deadline);

    /// The rank's info as it has published it, for hosts that carry infos over a channel of their
    /// own; it changes with every publish(). Whoever has these bytes can dial the rank.
    /// missing_layout: nothing is published.
    caf::expected<byte_buffer> local_info() const;

    /// All ranks of an instance, from the local_info() of each, in any order. Returns the address
    /// for context_address::endpoint, "@name". The same instance again takes the place of what was
    /// known: so a restarted rank is made known, with the infos of the others as they are. A rank
    /// without server needs the infos of its own instance as well, unless it is alone.
    /// malformed_message, protocol_mismatch, instance_incomplete, duplicate, layout_mismatch,
    /// missing_layout: the infos; nothing has changed. limit_exceeded:
    /// limits::instances_added_max.
    caf::expected<std::string> add_instance(const std::vector<byte_buffer>& infos);

    /// Forgets an instance that was added; sessions with it go on.
    [[nodiscard]] caf::error remove_instance(const std::string& address);

    /// Lists the instance for something else from now on; sessions go on. unsupported: it is not
    /// listed anywhere, or this is not rank 0.
    [[nodiscard]] caf::error set_role(instance_role);

    /// Never fails here: a failure is the session's outcome.
    tx_handle open_tx(session_options);
    rx_handle open_rx(session_options, context_address);

    /// "host:port" under which generation ranks find this rank's instance; "@name" without a
    /// server.
    const std::string& info_endpoint() const;

    /// "host:port" of the process's metrics; empty without them.
    const std::string& metrics_endpoint() const;

    caf::expected<rank_info_reply> info() const;
    caf::expected<worker_statistics> statistics() const;
    caf::expected<session_list> sessions() const;
    /// Waits at most `deadline`; for watchdogs of a rank that may hang.
    caf::expected<session_list> sessions(list_sessions which,
                                         std::chrono::milliseconds deadline) const;

    /// Cancels all sessions, says goodbye to peers, releases everything. not_proven names what is
    /// not proven quiet by the deadline: that keeps its mappings, its threads and its actor system
    /// for ever, and exit() then ends the process without destructors. Also then nothing that peers
    /// send lands in the rank's memory after this call or the destructor; regions without an owner
    /// (host_region::keep) that they may write by other means are named: the host must neither free
    /// nor reuse those.
    [[nodiscard]] caf::expected<worker_stopped> stop(std::chrono::milliseconds deadline);

    /// For a rank that is taken out of service: refuses new sessions, and tells peers that ask for
    /// one; lets sessions end that have met their peer, cancels the others; then stops. The last
    /// quarter of the deadline is the stop's (at most limits::stop_deadline): what has not ended by
    /// then is cancelled.
    [[nodiscard]] caf::expected<worker_stopped> drain(std::chrono::milliseconds deadline);

    /// Typed handle, for hosts that are actor systems; null when there is no rank.
    transfer_worker_actor actor() const;

private:
    friend class runtime;
    struct parts;
    explicit worker(std::shared_ptr<parts>);

    /// `owner` lives as long as anything of the rank.
    static caf::expected<worker> start_on(std::shared_ptr<void> owner, caf::actor_system&,
                                          worker_options);
    /// Asks the rank, by default for limits::info_deadline.
    template <class Reply, class Message>
    caf::expected<Reply> ask(Message, std::optional<std::chrono::milliseconds> = {}) const;
    template <class Handle, class Open>
    Handle open(session_options&&, side, Open);

    std::shared_ptr<parts> parts_;
};

} // namespace kvferry
