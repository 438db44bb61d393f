// SPDX-License-Identifier: Apache-2.0
// Who exists and what they understand: every actor interface of the runtime.
//
// One `///` line says what an actor is, one `//` line what a message makes it do. Messages between
// ranks are defined in wire/protocol.hpp, messages inside a process in local/. "internal" marks an
// interface, or a message, that an actor uses towards itself alone: nobody else sends it.
#pragma once

#include "messages/fwd.hpp"

#include <caf/fwd.hpp>
#include <caf/result.hpp>
#include <caf/typed_actor.hpp>

namespace kvferry {

// -- I/O ------------------------------------------------------------------------------------

/// Gets the end of the operations that it started.
using completion_actor = caf::typed_actor<
    // The operation has ended; `result` says whether bytes may still move.
    caf::result<void>(transfer_done)>;

/// Gets what arrives from one peer, or from peers that nobody claimed yet.
using frame_sink_actor = caf::typed_actor<
    // A whole frame; its prefix has been checked, its content has not.
    caf::result<void>(frame_arrived),
    // The endpoint is of no use any more; its transfers have been answered.
    caf::result<void>(endpoint_failed)>;

/// The fabric between ranks: fabric_io, and loopback_io as its twin. Frames from a peer go to the
/// sink that opened an endpoint to it, all others to the sink given at spawn.
using fabric_actor = caf::typed_actor<
    // Make an endpoint to a peer's fabric address; later failures reach the owner.
    caf::result<endpoint_opened>(open_endpoint),
    // Memory of an endpoint's peer that this process can read.
    caf::result<void>(peer_memory_mapped),
    // The peer's regions, when they were not known as the endpoint was opened.
    caf::result<void>(peer_regions_offered),
    // Send one frame; a failure is an endpoint_failed.
    caf::result<void>(send_frame),
    // Write a plan's bytes into the peer's regions and flush; answered by transfer_done.
    caf::result<void>(start_put),
    // Post nothing more of a transfer; it ends with transfer_done as soon as nothing is in flight.
    caf::result<void>(cancel_transfer),
    // End an endpoint; answered when every transfer on it has been answered.
    caf::result<void>(close_endpoint),
    // Make memory a target of puts.
    caf::result<region_registered>(register_region),
    // Take that back.
    caf::result<void>(unregister_region),
    // Own address, transports.
    caf::result<fabric_description>(describe_fabric),
    // Answered when nothing that a dead peer sent can change memory any more.
    caf::result<void>(drain_fabric),
    // Let puts of an attempt in.
    caf::result<void>(allow_writes),
    // Answered when no put by message for an attempt can change memory any more.
    caf::result<void>(forbid_writes),
    // Answered when no put by message can change any memory of this rank any more.
    caf::result<void>(forbid_all_writes),
    // Close all endpoints, release all objects, answer, end.
    caf::result<void>(stop_io)>;

/// Copies between mapped memory on its own thread: copy_io (host), cuda_io (device).
using copy_actor = caf::typed_actor<
    // Copy a plan's bytes; answered by transfer_done.
    caf::result<void>(start_copy),
    // Stop a copy at its next piece; it ends with transfer_done.
    caf::result<void>(cancel_transfer),
    // End all copies, answer, end.
    caf::result<void>(stop_io)>;

/// Hears that a device is of no use any more.
using device_owner_actor = caf::typed_actor<
    // Every transfer on it has been answered; its process has to be started anew.
    caf::result<void>(device_lost)>;

/// internal: copy_io as it speaks to itself.
using stepping_copy_actor = copy_actor::extend<
    // Copy the next piece.
    caf::result<void>(copy_step)>;

/// The copy actor of one device, and the only one that calls CUDA for it: cuda_io.
using device_actor = copy_actor::extend<
    // How other processes reach this stretch of device memory.
    caf::result<device_region_exported>(export_device_region),
    // Let the device address this stretch of host memory, until the actor ends.
    caf::result<void>(pin_host_region),
    // Make a peer's regions addressable for the device; what cannot be has a reason.
    caf::result<peer_regions_mapped>(map_peer_regions),
    // Nobody uses this mapping any more: close it.
    caf::result<void>(unmap_region),
    // Answered when an event of the host's streams has happened.
    caf::result<void>(await_event)>;

/// Puts out of a device's memory, through pinned host memory.
using staged_put_actor = completion_actor::extend<
    // Write a plan's bytes into the peer's regions; answered by transfer_done.
    caf::result<void>(start_put),
    // Stage nothing more of a transfer; it ends with transfer_done as soon as nothing is in flight.
    caf::result<void>(cancel_transfer)>;

/// Learns what the same-host link to one peer is good for.
using host_link_owner_actor = caf::typed_actor<
    // Connected: the peer's regions are mapped, its process is watched.
    caf::result<void>(host_link_up),
    // There is no such link, or its other end was closed: the peer's death notice.
    caf::result<void>(host_link_down),
    // Proof: no thread of the peer's process exists any more.
    caf::result<void>(process_gone)>;

/// Same-host connections of a rank: memfds one way and the other, and the peer's pidfd.
using host_link_actor = caf::typed_actor<
    // Send this region's memfd with every connection made from now on.
    caf::result<void>(share_region),
    // Connect to a peer's socket; ends in host_link_up or host_link_down at the owner.
    caf::result<void>(host_link_dial),
    // A peer says that it has connected: tell the owner host_link_up when it has.
    caf::result<void>(host_link_expect),
    // Close the connection; mappings live on until the last copy lets go of them.
    caf::result<void>(host_link_close),
    // Close all connections, answer, end.
    caf::result<void>(stop_io)>;

// -- instances and links --------------------------------------------------------------------

/// One per instance, on rank 0: collects the infos of all ranks and hands them out together.
using rank_info_server_actor = caf::typed_actor<
    // A rank of this instance introduces itself; a restarted rank replaces its former self.
    caf::result<void>(register_rank_info),
    // All ranks of the instance; answered once every rank has registered.
    caf::result<instance_info>(request_instance_info),
    // The same two questions from outside, encoded by the codec.
    caf::result<info_frame>(info_frame),
    // Which ranks are here, and where they answer questions about themselves.
    caf::result<ranks_listed>(list_ranks)>;

/// internal: the server with its own timer.
using ticking_rank_info_server = rank_info_server_actor::extend<
    // End the questions whose deadline has passed.
    caf::result<void>(deadline_tick)>;

/// Tells people from outside what its rank does; one for each rank that listens, and never on the
/// rank's loop, so that it also speaks for one that hangs.
using rank_teller_actor = caf::typed_actor<
    // A query_rank, encoded by the codec.
    caf::result<info_frame>(info_frame),
    // The rank has been made, or made anew.
    caf::result<void>(adopt_rank)>;

/// internal: the teller with its own timer.
using ticking_rank_teller = rank_teller_actor::extend<
    // Answer without what the rank has not said in time.
    caf::result<void>(deadline_tick)>;

/// Asks the rank-info servers of other instances; CAF's network layer, and a loopback twin.
using info_link_actor = caf::typed_actor<
    // All ranks of the instance behind an endpoint ("host:port"), by the deadline.
    caf::result<instance_info>(fetch_instance_info),
    // Introduce a rank to its own instance's server.
    caf::result<void>(register_with_instance),
    // Make this process's server reachable.
    caf::result<info_server_published>(publish_info_server)>;

/// internal: an info_link with its own timer.
using ticking_info_link = info_link_actor::extend<
    // End the questions whose deadline has passed.
    caf::result<void>(deadline_tick)>;

/// Keeps a rank known to its instance's rank-info server, which may be started anew.
using registrar_actor = caf::typed_actor<
    // internal: Introduce the rank again.
    caf::result<void>(deadline_tick)>;

/// An info_link that also knows instances whose infos the host carries; one for each rank.
using instance_book_actor = info_link_actor::extend<
    // Remember an instance, or forget it.
    caf::result<void>(add_instance)>;

/// Looks up instances by name in a directory outside of the ranks (etcd), on a thread of its own.
using directory_reader_actor = caf::typed_actor<
    // Where an instance is, by a deadline.
    caf::result<instance_found>(find_instance)>;

/// Keeps the own instance in the directory under a lease, on a thread of its own.
using directory_writer_actor = caf::typed_actor<
    // List it from now on, or as it is now.
    caf::result<void>(list_instance),
    // internal: Renew the lease.
    caf::result<void>(deadline_tick)>;

/// An info_link that also knows instances by their names in a directory; one for each rank.
using named_instances_actor = info_link_actor::extend<
    // Tell the directory what has changed about the own instance.
    caf::result<void>(describe_instance)>;

/// One question of an info_link, on a thread of its own, so that no question waits for another.
using info_caller_actor = caf::typed_actor<
    // Connect to a rank-info server, ask, hand over its answer.
    caf::result<info_frame>(call_info_server)>;

/// One per (rank, incarnation): dial or accept, handshake, typed messages both ways, liveness.
using peer_link_actor = frame_sink_actor::extend_with<host_link_owner_actor>::extend<
    // Dial or accept: told once, right after spawn.
    caf::result<void>(start_link),
    // internal: The handshake's time is over.
    caf::result<void>(deadline_tick),
    // Send one message to the peer; waits for the handshake if need be.
    caf::result<void>(send_message),
    // End, saying goodbye or not.
    caf::result<void>(close_link)>;

// -- transfers ------------------------------------------------------------------------------

/// The host's ear: told of every piece, outcome and release.
using observer_actor = caf::typed_actor<
    // One send(slice), send_aux() or receive(slice) has ended.
    caf::result<void>(piece_finished),
    // Every receiver rank has asked for what a sending session sends.
    caf::result<void>(session_ready),
    // A receiving session's first layers are whole.
    caf::result<void>(layers_arrived),
    // The session's final state; never followed by another.
    caf::result<void>(session_finished),
    // Nobody touches the session's pages any more; they are the host's again.
    caf::result<void>(session_released)>;

/// The rank's end of a session handle that a host holds: opens the session, hands the host's
/// pieces on, keeps its promises.
using session_gate_actor = observer_actor::extend<
    // Opens the session: told once, right after spawn.
    caf::result<void>(open_tx),
    // Opens the session: told once, right after spawn.
    caf::result<void>(open_rx),
    // A slice of a sending session, with the promise of its end.
    caf::result<void>(host_send),
    // The aux record of a sending session, with the promise of its end.
    caf::result<void>(host_send_aux),
    // A slice of a receiving session, with the promise of its end.
    caf::result<void>(host_receive),
    // The host gives the session up.
    caf::result<void>(cancel_request),
    // The host wants it to last longer.
    caf::result<void>(extend_session),
    // Slots that may still be read or written.
    caf::result<slots_on_loan>(query_slots),
    // State, loans and what it waits for.
    caf::result<session_status>(query_status)>;

/// Hears of peers: links that come up, end, and processes proven gone.
using peer_watcher_actor = caf::typed_actor<
    // The handshake is done; the view tells what is known of the peer.
    caf::result<void>(peer_ready),
    // The link has ended or could not be made.
    caf::result<void>(peer_lost),
    // Nothing that the peer started moves any more: its process is gone, proven, or it left in
    // order after its last operation had ended.
    caf::result<void>(process_gone)>;

/// One per (rid) on a context rank: plans and writes slices to every receiver that asks.
using tx_session_actor = completion_actor::extend_with<peer_watcher_actor>::extend<
    // The host hands over a slice; its slots are on loan.
    caf::result<void>(send_slice),
    // The host hands over the aux record.
    caf::result<void>(send_aux),
    // A receiver rank asks; its first request binds its attempt.
    caf::result<void>(bind_receiver),
    // A receiver rank gives its attempt up.
    caf::result<void>(unbind_receiver),
    // A receiver rank does not know the session any more.
    caf::result<void>(gone),
    // The host, or a stop, gives the session up.
    caf::result<void>(cancel_request),
    // The host wants it to last longer.
    caf::result<void>(extend_session),
    // Slots that may still be read or written.
    caf::result<slots_on_loan>(query_slots),
    // internal: The session's time is over.
    caf::result<void>(deadline_tick),
    // Nobody hands messages on to this session any more.
    caf::result<void>(owner_ended),
    // State, loans and what it waits for.
    caf::result<session_status>(query_status)>;

/// Hands on to siblings what one receiving session receives, through a tx_session of its own.
using relay_actor = observer_actor::extend<
    // A slice has arrived; its slots are on loan until relay_over.
    caf::result<void>(send_slice),
    // The aux record has arrived.
    caf::result<void>(send_aux),
    // The host wants the receiving session to last longer.
    caf::result<void>(extend_session),
    // Siblings get nothing more.
    caf::result<void>(cancel_request)>;

/// One per (rid, attempt) on a generation rank: asks the writers, counts reports, ends once. A
/// device tells it the digest of what lies in its pages.
using rx_session_actor = completion_actor::extend_with<peer_watcher_actor>::extend<
    // The host lends slots to be filled.
    caf::result<void>(receive_slice),
    // Who will write: both cohorts, computed from the instance's infos, or why there are none.
    caf::result<void>(bind_writers),
    // A writer writes its first piece: from now on the session's other clock counts.
    caf::result<void>(transfer_started),
    // A writer's report of one piece.
    caf::result<void>(kv_agent_result),
    // The elected writer's aux record.
    caf::result<void>(aux_agent_result),
    // The writer gives the attempt up.
    caf::result<void>(cancel_session),
    // The writer does not know the session any more.
    caf::result<void>(gone),
    // The writer does not accept the request.
    caf::result<void>(refused),
    // Writers that wait for their session are about to forget this one.
    caf::result<void>(renew_requests),
    // The host, or a stop, gives the session up.
    caf::result<void>(cancel_request),
    // The host wants it to last longer.
    caf::result<void>(extend_session),
    // Its writers are to know that it is wanted.
    caf::result<void>(keep_session),
    // The sibling that hands on its bytes has had half of its time.
    caf::result<void>(relay_overdue),
    // Its siblings have what it hands on, or get nothing more.
    caf::result<void>(relay_over),
    // Slots that may still be read or written.
    caf::result<slots_on_loan>(query_slots),
    // internal: The session's time is over.
    caf::result<void>(deadline_tick),
    // Nobody hands messages on to this session any more.
    caf::result<void>(owner_ended),
    // State, loans and what it waits for.
    caf::result<session_status>(query_status)>;

/// Owns the tx_sessions of a rank and remembers requests that came before their session.
using sender_actor = peer_watcher_actor::extend<
    // Make the session of a rid.
    caf::result<tx_opened>(open_tx),
    // To the session of its rid, or remembered under a lease.
    caf::result<void>(request_data),
    // To the session of its rid.
    caf::result<void>(cancel_session),
    // To the session of its rid.
    caf::result<void>(gone),
    // A receiver waits for its host: the deadline of the session of its rid begins anew.
    caf::result<void>(session_wanted),
    // The host has extended a session.
    caf::result<void>(session_extended),
    // A session's first piece goes or has come: from now on its other clock counts.
    caf::result<void>(session_transferring),
    // A session has its outcome; its pages may still be on loan.
    caf::result<void>(session_ended),
    // A session has ended and its pages are released: forget it.
    caf::result<void>(session_retired),
    // internal: End what has reached its deadline.
    caf::result<void>(deadline_tick),
    // All sessions as they are now.
    caf::result<session_list>(list_sessions),
    // Refuse new sessions, cancel those that have not met their peer; answered when none is left.
    caf::result<void>(drain_sessions),
    // Cancel every session and refuse new ones; answered when none is left.
    caf::result<void>(cancel_request)>;

/// Owns the rx_sessions of a rank, resolves instances to writers and links to them.
using receiver_actor = peer_watcher_actor::extend<
    // Make a session of a rid under a new attempt.
    caf::result<rx_opened>(open_rx),
    // To the session of its attempt.
    caf::result<void>(transfer_started),
    // To the session of its attempt.
    caf::result<void>(kv_agent_result),
    // To the session of its attempt.
    caf::result<void>(aux_agent_result),
    // To the session of its attempt.
    caf::result<void>(cancel_session),
    // To the session of its attempt.
    caf::result<void>(gone),
    // To the session of its attempt.
    caf::result<void>(refused),
    // The host has extended a session.
    caf::result<void>(session_extended),
    // The ranks of an instance, told by the host.
    caf::result<void>(add_instance),
    // A session's first piece goes or has come: from now on its other clock counts.
    caf::result<void>(session_transferring),
    // A session has its outcome; its pages may still be on loan.
    caf::result<void>(session_ended),
    // A session has ended and its pages are released: forget it.
    caf::result<void>(session_retired),
    // internal: End what has reached its deadline.
    caf::result<void>(deadline_tick),
    // All sessions as they are now.
    caf::result<session_list>(list_sessions),
    // Refuse new sessions, cancel those that have not met their peer; answered when none is left.
    caf::result<void>(drain_sessions),
    // Cancel every session and refuse new ones; answered when none is left.
    caf::result<void>(cancel_request)>;

/// Root of a rank: spawns and supervises everything above, stops it in order.
using transfer_worker_actor =
    frame_sink_actor::extend_with<peer_watcher_actor>::extend_with<device_owner_actor>::extend<
        // The I/O actors of the rank, once they could be made.
        caf::result<void>(adopt_io),
        // The rank's devices, before its pools are registered.
        caf::result<void>(adopt_devices),
        // Register the host's pools and publish the page table with the instance's server.
        caf::result<pools_registered>(register_pools),
        // Make a sending session.
        caf::result<tx_opened>(open_tx),
        // Make a receiving session.
        caf::result<rx_opened>(open_rx),
        // The ranks of an instance, told by the host.
        caf::result<void>(add_instance),
        // The link to a rank, made if there is none.
        caf::result<peer_connected>(connect_peer),
        // Answered when the link to a rank is ready: its memory is mapped, or there is a reason.
        caf::result<void>(await_peer),
        // What this rank publishes.
        caf::result<rank_info_reply>(query_rank_info),
        // All sessions as they are now.
        caf::result<session_list>(list_sessions),
        // Counters, without a word to any session.
        caf::result<worker_statistics>(query_statistics),
        // internal: The stop's time is over.
        caf::result<void>(deadline_tick),
        // Refuse new sessions, end those that have not met their peer; answered when none is left.
        caf::result<void>(drain_worker),
        // Cancel, drain, release, end; says what could not be proven quiet.
        caf::result<worker_stopped>(stop_worker)>;

} // namespace kvferry
