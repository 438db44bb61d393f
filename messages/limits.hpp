// SPDX-License-Identifier: Apache-2.0
// Every maximum and default of the runtime, units in the names.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Version of the messages between ranks, and the oldest one that is still understood. A link
/// speaks the lower version of its two ranks; a peer outside this range is refused by name.
inline constexpr std::uint16_t protocol_version = 7;
inline constexpr std::uint16_t oldest_protocol_version = 6;

/// Descriptors that a rank opens by itself, with room for some network devices, and for each peer
/// (measured: transport/MEASURED.md); over TCP one more for bytes of the high class, and of the low
/// class.
inline constexpr std::size_t descriptors_of_a_rank = 31;
inline constexpr std::size_t descriptors_of_a_peer = 4;
/// Descriptors that stay free: a link that would take one of them is refused.
inline constexpr std::size_t descriptors_reserve = 64;

/// What is compared of bytes that come from a writer. What each level proves, and what it costs:
/// actors/generation/README.md.
enum class digest_level : std::uint8_t {
    /// Nothing.
    off = 0,
    /// Bytes that come as messages (routes `direct` and `staged`): whoever places them adds them up
    /// and compares. Bytes that a writer stores through a mapping are not read again.
    wire = 1,
    /// As well, every piece once it is in its pages: read again, on a device by the device, and
    /// compared with what its writer has read.
    memory = 2,
};

/// What a worker accepts and how long it waits. A host may change any value before it starts a
/// worker; what concerns a peer travels to it inside rank_info as rank_limits.
struct limits {
    // -- sizes -----------------------------------------------------------------------------
    /// Longest frame that is sent or decoded.
    std::size_t message_bytes_max = std::size_t{16} << 20;
    /// Rank infos of one instance, before they are packed for the way.
    std::size_t instance_bytes_max = std::size_t{64} << 20;
    /// Longest encoded aux record.
    std::size_t aux_bytes_max = std::size_t{64} << 10;
    /// Longest text of an error that travels to a peer; the rest is cut.
    std::size_t error_text_bytes_max = 1024;
    /// Longest fingerprint of a host.
    std::size_t fingerprint_bytes_max = 1024;
    /// Block positions in one layer group of one slice.
    std::size_t blocks_per_slice_max = std::size_t{1} << 20;
    /// Host copies into regions of at least this size bypass the caches; 0: all do.
    std::uint64_t past_cache_region_bytes_min = std::uint64_t{64} << 20;
    /// Copies up to this size run on the loop thread itself, without a hop.
    std::size_t inline_copy_bytes_max = std::size_t{64} << 10;
    /// copy_io looks at its inbox after every piece of this size.
    std::size_t copy_piece_bytes_max = std::size_t{1} << 20;
    /// What the staged route gathers, puts and scatters at a time: a multiple of 16.
    std::size_t staging_piece_bytes_max = std::size_t{4} << 20;
    /// Pinned host memory of the staged route: this much for what leaves a device that copies, and
    /// as much for what reaches it; taken by the first transfer that needs it.
    std::size_t staging_bytes_max = std::size_t{64} << 20;

    // -- counts ----------------------------------------------------------------------------
    /// Live sessions of one worker in each direction.
    std::size_t sessions_max = 65536;
    /// Calls of a host that its rank has not taken up yet; one more is refused.
    std::size_t host_calls_max = 65536;
    /// Messages that wait for one link to come up.
    std::size_t pending_per_link_max = 65536;
    /// request_data remembered for sessions that the host has not opened yet.
    std::size_t early_requests_max = 65536;
    /// Pieces of puts that one endpoint has in flight at a time.
    std::size_t puts_in_flight_max = 256;
    /// Pairs of layouts whose templates a planner keeps.
    std::size_t plan_cache_entries_max = 256;
    /// Questions that wait at a rank-info server for ranks that have not registered yet, and
    /// connections that it holds.
    std::size_t info_questions_max = 4096;
    /// Questions of people about a rank that it answers at a time, and sessions in one answer.
    std::size_t rank_questions_max = 16;
    std::size_t told_sessions_max = 256;
    /// Instances whose rank infos a rank keeps, so that it is told only what has changed.
    std::size_t instances_known_max = 64;
    /// Questions of one rank to rank-info servers at a time; each holds a thread.
    std::size_t info_calls_max = 64;
    /// Instances whose rank infos the host has carried to this rank (worker::add_instance).
    std::size_t instances_added_max = 1024;
    /// Regions that one peer may offer on a same-host connection. Memory on a device that is made
    /// of chunks counts with each of them.
    std::size_t shared_regions_max = 4096;
    /// Same-host connections that came before a link here expects them.
    std::size_t unexpected_host_links_max = 1024;
    /// Connections of one address (IPv6: one network of 64 bits) to a rank-info server that have
    /// not shown the deployment's secret, or asked nothing whole where there is none; one more
    /// takes the place of the oldest.
    std::size_t info_strangers_per_address_max = 256;
    /// What these together have sent of questions that are not complete; at least
    /// message_bytes_max.
    std::size_t info_stranger_bytes_max = std::size_t{32} << 20;
    /// The same for the tcp wire: connections that have not said hello, of one address and of all;
    /// beyond that the address that has most gives way.
    std::size_t wire_strangers_per_address_max = 32;
    std::size_t wire_strangers_max = 64;

    // -- times -----------------------------------------------------------------------------
    /// One dial of one link, handshake included.
    std::chrono::milliseconds dial_deadline{5000};
    /// One question to an instance's rank-info server.
    std::chrono::milliseconds info_deadline{5000};
    /// For a rank's loop to say what its sessions do; then people are answered without that.
    std::chrono::milliseconds rank_answer_deadline{500};
    /// A rank introduces itself to its instance's server again after at most this long, and at
    /// least half of it (the rest is random), so that a restarted server knows it.
    std::chrono::milliseconds registration_period{2000};
    /// A session, from its opening to the first piece sent or received: the wait for the peer.
    std::chrono::milliseconds session_deadline{60000};
    /// A session, from that first piece to its outcome.
    std::chrono::milliseconds transfer_deadline{60000};
    /// However often a session is extended, by its host or by a peer that waits: it ends at the
    /// latest when it is this old, unless its first deadlines are longer.
    std::chrono::milliseconds session_age_max{3'600'000};
    /// A receiving session whose host has no slots for it yet tells its writers this often that it
    /// is wanted; each time their deadline begins anew.
    std::chrono::milliseconds session_keep_interval{5000};
    /// request_data that came before its session is kept this long after its last renewal; a
    /// receiver renews three times in this time.
    std::chrono::milliseconds early_request_lease{120000};
    /// A stop without an explicit deadline, and every destructor.
    std::chrono::milliseconds stop_deadline{10000};
    /// The loop, and threads that copy, keep polling this long before they sleep; 0 sleeps at once.
    std::chrono::microseconds loop_spin{0};
    /// While somebody waits for a peer whose link is quiet, it is asked this often whether it
    /// hears.
    std::chrono::milliseconds link_health_interval{1000};
    /// A peer that has not answered such a question within this time counts as lost.
    std::chrono::milliseconds link_patience{5000};
    /// A quiet link that nobody waits for is asked this often.
    std::chrono::milliseconds link_idle_interval{60000};
    /// After a session has failed the next one asks again which ranks its instance has, unless that
    /// is known since less than this.
    std::chrono::milliseconds info_age_min{1000};

    /// A rank that has received everything holds its pages this long for siblings that have not
    /// asked for their copy yet; these then ask the context itself.
    std::chrono::milliseconds relay_patience{2000};

    // -- versions --------------------------------------------------------------------------
    /// Newest version that the rank speaks. Lowered while ranks of the release before are served
    /// whose infos a host carries; ranks that ask a server settle it by themselves.
    std::uint16_t protocol = protocol_version;

    // -- checks ----------------------------------------------------------------------------
    /// How far the rank checks what it receives; from `wire` on it also says sums of what it sends.
    digest_level digests = digest_level::off;

    // -- replicas --------------------------------------------------------------------------
    /// Ranks of one machine and instance that need the same bytes of another machine let one of
    /// them receive the bytes and hand them on. A rank takes part when this is set.
    bool relay = false;

    // -- the host ----------------------------------------------------------------------------
    /// Callbacks of a host that wait for the one before to return; then no more sessions open.
    std::uint32_t callbacks_waiting_max = 16384;
};

} // namespace kvferry
