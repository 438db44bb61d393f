// SPDX-License-Identifier: Apache-2.0
// Messages that never leave a process: commands and completions of I/O actors, what protocol
// actors tell each other, what a host asks and hears.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/session_state.hpp"
#include "messages/wire/protocol.hpp"

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace kvferry {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;

// -- info exchange --------------------------------------------------------------------------

/// A codec frame from or for another process. The bytes travel, the message does not.
struct info_frame {
    byte_buffer bytes;
};

/// Ask the rank-info server at `endpoint` ("host:port") for all ranks of its instance.
struct fetch_instance_info {
    std::string endpoint;
    std::chrono::milliseconds deadline;
};

/// Introduce `info` to its own instance's server at `endpoint`.
struct register_with_instance {
    std::string endpoint;
    rank_info info;
    std::chrono::milliseconds deadline;
};

/// Make a server reachable under `bind_address`; port 0 picks a free one.
struct publish_info_server {
    rank_info_server_actor server;
    std::string bind_address = "127.0.0.1";
    std::uint16_t port = 0;
};

struct info_server_published {
    std::string endpoint;
    /// Listens there; ends after the server has. Null in a loopback world.
    caf::actor door;
};

/// A question and how long anybody wants its answer.
struct call_info_server {
    info_endpoint endpoint;
    byte_buffer question;
    time_point until;
};

// -- fabric ---------------------------------------------------------------------------------

/// `regions` are the peer's, with access keys, in its own order; empty when nothing is put there.
struct open_endpoint {
    incarnation peer;
    byte_buffer fabric_address;
    std::vector<memory_region> regions;
    frame_sink_actor owner;
};

struct endpoint_opened {
    endpoint_id endpoint;
};

/// Memory of the peer that this process has mapped: its puts into memory on a device here may be
/// read from there instead of being sent. Let go of with the endpoint.
struct peer_memory_mapped {
    endpoint_id endpoint;
    std::vector<mapped_region> regions;
};

/// Told once per endpoint, by an error on the way or after close_endpoint by force.
struct endpoint_failed {
    endpoint_id endpoint;
    incarnation peer;
    caf::error reason;
};

struct send_frame {
    endpoint_id endpoint;
    byte_buffer frame;
};

struct frame_arrived {
    byte_buffer frame;
};

/// Events of the host's own CUDA streams, as cudaEvent_t; they must live until the piece has ended.
struct device_events {
    /// No byte is read before this event has happened.
    void* wait_for = nullptr;
    /// Recorded on the copying stream behind the piece's last read. A stream that waits for it
    /// before it was recorded waits for nothing.
    void* completed = nullptr;
};

/// `job.target_pools` hold addresses of the peer; `region` picks the access key.
struct start_put {
    transfer_id id;
    endpoint_id endpoint;
    copy_job job;
    completion_actor reply_to;
    /// For puts out of memory on a device only.
    device_events events = {};
};

/// All addresses of `job` are addresses of this process.
struct start_copy {
    transfer_id id;
    copy_job job;
    completion_actor reply_to;
    /// For copies on a device only.
    device_events events = {};
};

/// copy_io to itself: the next piece.
struct copy_step {};

struct cancel_transfer {
    transfer_id id;
};

/// Exactly one per started transfer, and never while the operation may still read its source.
/// SUCCESS: all bytes visible at the target. FAILED: nothing in flight any more. IN_DOUBT: bytes
/// may still arrive at the target.
struct transfer_done {
    transfer_id id;
    agent_result result = agent_result::success;
    std::uint64_t bytes = 0;
    caf::error error;
    /// First byte posted or copied, and end.
    time_point began;
    time_point ended;
    /// What the executor did before the first byte; waiting for its turn is none of it.
    std::chrono::nanoseconds posting{0};
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
};

/// `peer` is dead or has left: nothing of it that is still on its way is let in any more.
struct drain_fabric {
    incarnation peer;
};

struct stop_io {};

// -- devices --------------------------------------------------------------------------------

/// `base` is an address on the device, inside an allocation of the host.
struct export_device_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

struct device_region_exported {
    device_export how;
};

struct pin_host_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
};

/// `by_host` are those regions that the host has mapped.
struct map_peer_regions {
    incarnation peer;
    std::vector<memory_region> regions;
    std::vector<mapped_region> by_host;
};

/// `obstacles` has the regions that the device cannot address, and why.
struct peer_regions_mapped {
    std::vector<mapped_region> mapped;
    std::map<std::uint32_t, std::string> obstacles;
};

/// From the last holder of a mapping to the actor that made it.
struct unmap_region {
    std::uint64_t mapping = 0;
};

struct device_lost {
    int device = 0;
    caf::error reason;
};

// -- same-host link -------------------------------------------------------------------------

/// `memfd` stays the caller's; it must live as long as the host_link actor.
struct share_region {
    std::uint32_t region = 0;
    int memfd = -1;
    std::uint64_t bytes = 0;
    /// Where it is mapped in this process: all that the loopback twin needs.
    std::byte* base = nullptr;
};

/// The number under which the staging memory of a device is shared, beside those of the rank's
/// regions.
inline constexpr std::uint32_t staging_region(int ordinal) {
    return 0xffff0000u + static_cast<std::uint32_t>(ordinal);
}

struct host_link_dial {
    incarnation peer;
    std::string name;
    link_token token;
    std::chrono::milliseconds deadline;
    host_link_owner_actor owner;
};

struct host_link_expect {
    incarnation peer;
    std::chrono::milliseconds deadline;
    host_link_owner_actor owner;
};

struct host_link_up {
    incarnation peer;
    std::vector<mapped_region> mapped;
    bool process_watched = false;
};

struct host_link_down {
    incarnation peer;
    caf::error reason;
};

struct host_link_close {
    incarnation peer;
};

struct process_gone {
    incarnation peer;
};

// -- links ----------------------------------------------------------------------------------

struct connect_peer {
    rank_info peer;
};

struct peer_connected {
    peer_link_actor link;
};

/// The link fills version, incarnations and sequence of the header.
struct send_message {
    wire_message message;
};

struct start_link {};

/// Ends the link. A goodbye is proof to the peer that nothing of this rank moves any more: a rank
/// that cannot vouch for that closes without one.
struct close_link {
    caf::error reason;
    bool goodbye = true;
};

struct peer_ready {
    peer_view_ptr peer;
};

struct peer_lost {
    incarnation peer;
    caf::error reason;
};

// -- sessions -------------------------------------------------------------------------------

struct open_tx {
    rid request;
    aux_mode aux = aux_mode::none;
    observer_actor observer;
    /// To the first piece, and from there to the outcome.
    std::chrono::milliseconds deadline;
    std::chrono::milliseconds transfer_deadline = limits{}.transfer_deadline;
};

struct open_rx {
    rid request;
    aux_mode aux = aux_mode::none;
    /// "host:port" of the context instance's rank-info server.
    std::string context_endpoint;
    /// Context DP rank that runs the request; none: all are asked, the first that answers is it.
    std::optional<std::uint32_t> context_dp_rank = 0;
    observer_actor observer;
    /// To the first report, and from there to the outcome.
    std::chrono::milliseconds deadline;
    std::chrono::milliseconds transfer_deadline = limits{}.transfer_deadline;
};

struct tx_opened {
    tx_session_actor session;
};

struct rx_opened {
    rx_session_actor session;
    attempt drawn;
};

struct send_slice {
    kv_slice slice;
    device_events events = {};
};

struct send_aux {
    aux_record record;
};

struct receive_slice {
    kv_slice slice;
};

/// The first request_data of a receiver rank, with what is known of it.
struct bind_receiver {
    request_data request;
    peer_view_ptr peer;
};

/// A receiver rank's cancel, with what is known of it.
struct unbind_receiver {
    cancel_session cancel;
    peer_view_ptr peer;
};

/// One context rank that a receiver must hear from.
struct writer_binding {
    rank_id rank;
    incarnation process;
    /// In the KV cohort, in the aux cohort; at least one.
    bool kv = false;
    bool aux = false;
    /// Every rank of the own instance that asks this writer.
    std::vector<rank_id> receivers;
    /// Its DP group.
    std::uint32_t dp_rank = 0;
    /// The name of its instance.
    std::string instance = {};
};

/// `error` set: the cohorts could not be computed.
struct bind_writers {
    std::vector<writer_binding> writers;
    caf::error error;
};

struct cancel_request {
    caf::error reason;
};

struct deadline_tick {};

/// The first piece goes or has come: the session's other clock runs.
struct session_transferring {
    rid request;
    attempt session;
    /// On the generation side: the DP group that serves it.
    std::uint32_t context_dp_rank = 0;
};

/// Ask the writers again for what they have not reported on.
struct renew_requests {};

/// The host has been told the outcome, and the peers all that it demands at once.
struct session_ended {
    rid request;
    attempt session;
};

/// Ended and released. `reason` says why it ended; empty after success.
struct session_retired {
    rid request;
    attempt session;
    caf::error reason;
};

struct query_status {};

/// One thing that a session waits for, and who must act.
struct session_wait {
    /// "reports of context rank 1".
    std::string what;
    /// An actor by its name in traces, or "host".
    std::string who;
    /// Where that is, as in "context/1"; empty: on the session's own rank.
    std::string rank = {};
};

/// A session as it is now, for people: what it is, what it waits for, what is on loan.
struct session_status {
    side role = side::context;
    rid request;
    attempt session;
    session_state state = session_state::init;
    /// Per peer rank: how far its evidence is.
    std::map<rank_id, exposure> peers;
    /// `waits` as one text; "nothing" when it is empty.
    std::string waits_for;
    std::vector<session_wait> waits = {};
    /// When it ends by itself; none once it has its outcome.
    std::optional<time_point> deadline = {};
};

struct list_sessions {
    /// Only those of this request.
    std::optional<rid> request = {};
};

struct session_list {
    std::vector<session_status> sessions;
    /// Requests of receiver ranks whose session the host has not opened yet; `deadline` is when
    /// they are forgotten unless they are renewed.
    std::vector<session_status> unopened = {};
};

/// One piece. `index` counts send(slice) or receive(slice); for aux it is 0.
struct piece_finished {
    side role = side::context;
    rid request;
    attempt session;
    payload_kind kind = payload_kind::kv;
    slice_index index;
    caf::error error;
};

struct session_ready {
    rid request;
};

/// What one peer contributed, as its results told.
struct peer_summary {
    rank_id rank;
    std::uint64_t bytes = 0;
    std::uint64_t fragments = 0;
    std::string route;
    /// Context side: from taking a request or a slice to its first byte (plan, check, hand-over),
    /// without the time that messages were on their way between threads.
    std::chrono::nanoseconds posting{0};
    /// Generation side: pieces whose digest was compared (limits::digests).
    std::uint32_t digests = 0;
};

struct session_finished {
    side role = side::context;
    rid request;
    attempt session;
    session_state state = session_state::init;
    caf::error error;
    /// Filled on the generation side when aux was required.
    aux_record aux;
    std::vector<peer_summary> peers;
};

struct session_released {
    side role = side::context;
    rid request;
    attempt session;
};

// -- host handles ---------------------------------------------------------------------------

using piece_promise = std::shared_ptr<std::promise<piece_finished>>;
/// The place that a call takes among those that wait (limits::host_calls_max).
using host_call_place = std::shared_ptr<const void>;

struct host_send {
    kv_slice slice;
    device_events events;
    piece_promise done;
    host_call_place place = {};
};

struct host_send_aux {
    aux_record record;
    piece_promise done;
    host_call_place place = {};
};

struct host_receive {
    kv_slice slice;
    piece_promise done;
    host_call_place place = {};
};

struct run_callback {
    std::function<void()> callback;
    /// The session that it is about.
    rid request = {};
};

// -- worker ---------------------------------------------------------------------------------

/// One region of the host's cache memory.
struct host_region {
    std::byte* base = nullptr;
    std::uint64_t bytes = 0;
    memory_kind kind = memory_kind::host_private;
    /// For host_shared: the memfd behind it.
    int memfd = -1;
    /// For cuda: which device it lies on; worker::publish finds that out.
    int device = -1;
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
    /// "host:port" of the instance's rank-info server.
    std::string info_endpoint;
    fabric_description described;
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
};

struct stop_worker {
    std::chrono::milliseconds deadline;
};

/// `unproven` names the sessions whose memory stays on loan for ever; empty after a clean stop.
struct worker_stopped {
    std::vector<std::string> unproven;
};

} // namespace kvferry
