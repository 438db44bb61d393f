// SPDX-License-Identifier: Apache-2.0
// Every message between ranks. The literal in a comment is the name of the message that does
// this job in TensorRT-LLM's native transfer.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/kv_slice.hpp"
#include "messages/values/priority.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/route.hpp"
#include "messages/values/trace_parent.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/rank_status.hpp"

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace kvferry {

// -- instance information and links ---------------------------------------------------------

/// REGISTER_RANK_INFO. First message of a link: the dialler's own rank info, its regions with
/// access keys and the acceptor's token. The same message registers a rank with its own
/// instance's rank-info server (then without regions).
struct register_rank_info {
    message_header header;
    /// Unused towards a rank-info server.
    dial_id dial;
    rank_info info;
    std::vector<memory_region> regions;
    /// The acceptor's link token, as the acceptor's rank info told it.
    link_token token;
    /// The dialler holds a same-host connection to the acceptor: wait for its mappings.
    bool same_host = false;
    /// Towards a rank-info server: "host:port" where the rank answers query_rank, in the order in
    /// which they are to be tried.
    std::vector<std::string> answers_at = {};
};

/// The acceptor knows the dialler now. Whether they fit is a matter of each request. The dialler
/// confirms with whatever it says next, a link_health at the latest: then the acceptor may ask,
/// too.
struct rank_registered {
    message_header header;
    /// The dial that is accepted.
    dial_id dial;
};

/// REQUEST_INSTANCE_INFO. Asks a rank-info server for all ranks of its instance.
struct request_instance_info {
    message_header header;
    /// Digest of the packed_instance that the asker has; 0: none.
    std::uint64_t known = 0;
};

/// Answer to request_instance_info inside a process: every rank of the instance, in rank order.
struct instance_info {
    message_header header;
    std::vector<rank_info> ranks;
};

/// The other side does not go along: incompatible layout, wrong token, limit, wrong version.
/// Ends what it answers; the text has both sides' values.
struct refused {
    message_header header;
    /// The session that is refused; unused when a link or a question is refused.
    side to = side::generation;
    wire_error reason;
    /// The dial that is refused; 0 when something else is.
    dial_id dial = {};
};

/// The rank leaves in order; everything that still waits for it ends now.
struct termination {
    message_header header;
    wire_error reason;
};

/// Heartbeat of a link: asked by a rank that waits on a quiet link, answered with the same nonce
/// and `answer` set.
struct link_health {
    message_header header;
    std::uint64_t nonce = 0;
    bool answer = false;
};

// -- one transfer ---------------------------------------------------------------------------

/// REQUEST_DATA. A receiver rank asks a writer for one slice: its own slots, by position. A writer
/// that is asked for the aux record only is not told where the pages are: `target` is empty. A rank
/// in no cohort is asked for nothing once the others have begun: its session then ends by itself.
struct request_data {
    message_header header;
    kv_slice target;
    /// KV bytes of this slice are wanted from this writer.
    bool kv = true;
    /// The aux record is wanted from this writer.
    aux_mode aux = aux_mode::none;
    /// Every rank of the receiver's instance that asks this writer for this rid, the receiver
    /// included, so that the writer knows when it has served them all.
    std::vector<rank_id> receivers;
    /// Asks again what was asked before, so that it is not forgotten; `gone` when it is.
    bool renewal = false;
    /// Reports of success are to have a digest, where the writer can read what it sends.
    bool digest = false;
    /// The writer may write through mappings: the receiver watches its process, whose end is then
    /// the proof. Otherwise it puts through the fabric, where the receiver itself can forbid the
    /// attempt.
    bool may_map = true;
    /// Reports of success are to say which layers are whole.
    bool tell_layers = false;
    /// Of the engine's own trace, when the host gave it.
    std::optional<trace_parent> traceparent = {};
    /// The writer brings KV to this receiver, by their layouts, but the bytes of this slice come
    /// from a sibling of the receiver, so `kv` is false. Only to ranks that can
    /// (capability::relayed_requests).
    bool relayed = false;
    /// With header.relay: says which context ranks the bytes come from (relay_digest).
    std::uint64_t relay_of = 0;
    /// How urgent its bytes are beside those of others, wherever they wait. A writer whose host has
    /// said otherwise goes by that.
    priority urgency = priority::normal;
    /// `digest` may be one by position (piece_digest::by_position).
    bool digest_by_position = false;
    /// Only what belongs to these views of the receiver's page table is meant; empty: all of it
    /// (capability::parts).
    std::vector<view_place> views = {};
    /// Reports of success are to say what their piece was about (kv_agent_result::extent).
    bool tell_extents = false;
};

/// What a writer has read for one piece.
struct piece_digest {
    /// Of the writer's slice: says which blocks the piece is made of.
    token_range tokens;
    /// XXH3 of the bytes in the order of the plan, or plan_digest::sum.
    std::uint64_t value = 0;
    layer_range layers = {};
    bool by_position = false;
    /// plan_digest::parts.
    std::vector<std::uint64_t> parts = {};
};

/// KV_AGENT_RESULT. A writer's terminal report of one piece.
struct kv_agent_result {
    message_header header;
    agent_result result = agent_result::success;
    std::uint64_t bytes = 0;
    /// Stretches of bytes the piece was made of, after merging.
    std::uint64_t fragments = 0;
    /// How the bytes went, and why not better, for people: "mapped", "direct: no same-host link".
    std::string route;
    wire_error error;
    std::optional<piece_digest> digest = {};
    /// With request_data::tell_layers: of the layers that this writer sends, all below this global
    /// id are written whole. 0: not said.
    std::uint32_t layers_end = 0;
    /// With in_doubt: what is in doubt was put through the fabric as messages, which the receiver's
    /// own loop takes in or refuses; nothing of it can land in another way. False: not said.
    bool by_messages = false;
    /// How the bytes went. Older writers only say it in words: read_way.
    kvferry::route way = kvferry::route::none;
    /// With request_data::tell_extents: what the writer's slice speaks for.
    std::optional<slice_extent> extent = {};
};

/// Takes the way from the first word of the text, where the writer has said it in no other way.
void read_way(kv_agent_result&);

/// AUX_AGENT_RESULT. The elected writer's aux record, or why there is none.
struct aux_agent_result {
    message_header header;
    agent_result result = agent_result::success;
    aux_record record;
    wire_error error;
};

/// CANCEL_SESSION. Either side gives the attempt up; idempotent. A receiver also tells ranks that
/// it has not asked: they would wait for its request.
struct cancel_session {
    message_header header;
    /// The session that is to be cancelled.
    side to = side::generation;
    wire_error reason;
};

/// Answer to a message whose session is unknown, finished or of another attempt.
struct gone {
    message_header header;
    /// The session that sent the unanswerable message.
    side to = side::generation;
    wire_error reason;
};

/// A writer is about to write the first piece for an attempt: the receiver's wait for its peer is
/// over. Not sent where the report itself follows at once.
struct transfer_started {
    message_header header;
};

/// The side that accepted a link has something to receive over it: its regions with access keys, as
/// register_rank_info brings the dialler's. Goes once, before its first request_data.
struct offer_regions {
    message_header header;
    std::vector<memory_region> regions;
};

/// Answer to request_instance_info: every rank of the instance, in rank order (rank_packing.hpp).
/// The same bytes for every asker, so its header names no receiver.
struct packed_instance {
    message_header header;
    /// Of `ranks`; the asker shows it when it asks again.
    std::uint64_t digest = 0;
    byte_buffer ranks;
};

/// Answer to a request_instance_info whose asker knows all ranks as they are.
struct instance_unchanged {
    message_header header;
};

/// A receiver rank has opened its session and cannot say yet where its pages are: the deadline of
/// the writer's session begins anew. A writer without such a session ignores it.
struct session_wanted {
    message_header header;
};

/// The allow-list of the codec. A message's number on the wire is its place here: append only.
using wire_message =
    std::variant<register_rank_info, rank_registered, request_instance_info, instance_info, refused,
                 termination, link_health, request_data, kv_agent_result, aux_agent_result,
                 cancel_session, gone, transfer_started, offer_regions, packed_instance,
                 instance_unchanged, session_wanted, query_rank, rank_status>;

/// Protocol name of a message, as it stands in logs, traces and diagrams.
std::string_view name_of(const wire_message&);

/// Cuts the text of the error inside a message, if it carries one (limits::error_text_bytes_max).
void cut_error_text(wire_message&, std::size_t bytes_max);

/// The header inside a message.
const message_header& header_of(const wire_message&);
message_header& header_of(wire_message&);

template <class Inspector>
bool inspect(Inspector& f, register_rank_info& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("dial", x.dial),
                              f.field("info", x.info), f.field("regions", x.regions),
                              f.field("token", x.token), f.field("same_host", x.same_host),
                              f.field("answers_at", x.answers_at));
}

template <class Inspector>
bool inspect(Inspector& f, rank_registered& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("dial", x.dial));
}

template <class Inspector>
bool inspect(Inspector& f, request_instance_info& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("known", x.known));
}

template <class Inspector>
bool inspect(Inspector& f, instance_info& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("ranks", x.ranks));
}

template <class Inspector>
bool inspect(Inspector& f, refused& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("to", x.to),
                              f.field("reason", x.reason), f.field("dial", x.dial));
}

template <class Inspector>
bool inspect(Inspector& f, termination& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("reason", x.reason));
}

template <class Inspector>
bool inspect(Inspector& f, link_health& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("nonce", x.nonce),
                              f.field("answer", x.answer));
}

template <class Inspector>
bool inspect(Inspector& f, request_data& x) {
    return f.object(x).fields(
        f.field("header", x.header), f.field("target", x.target), f.field("kv", x.kv),
        f.field("aux", x.aux), f.field("receivers", x.receivers), f.field("renewal", x.renewal),
        f.field("digest", x.digest), f.field("may_map", x.may_map),
        f.field("tell_layers", x.tell_layers), f.field("traceparent", x.traceparent),
        f.field("relayed", x.relayed), f.field("relay_of", x.relay_of),
        f.field("urgency", x.urgency), f.field("digest_by_position", x.digest_by_position),
        f.field("views", x.views), f.field("tell_extents", x.tell_extents));
}

template <class Inspector>
bool inspect(Inspector& f, piece_digest& x) {
    return f.object(x).fields(f.field("tokens", x.tokens), f.field("value", x.value),
                              f.field("layers", x.layers), f.field("by_position", x.by_position),
                              f.field("parts", x.parts));
}

template <class Inspector>
bool inspect(Inspector& f, kv_agent_result& x) {
    const auto ok = f.object(x).fields(
        f.field("header", x.header), f.field("result", x.result), f.field("bytes", x.bytes),
        f.field("fragments", x.fragments), f.field("route", x.route), f.field("error", x.error),
        f.field("digest", x.digest), f.field("layers_end", x.layers_end),
        f.field("by_messages", x.by_messages), f.field("way", x.way), f.field("extent", x.extent));
    if constexpr (Inspector::is_loading)
        if (ok)
            read_way(x);
    return ok;
}

template <class Inspector>
bool inspect(Inspector& f, aux_agent_result& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("result", x.result),
                              f.field("record", x.record), f.field("error", x.error));
}

template <class Inspector>
bool inspect(Inspector& f, cancel_session& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("to", x.to),
                              f.field("reason", x.reason));
}

template <class Inspector>
bool inspect(Inspector& f, gone& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("to", x.to),
                              f.field("reason", x.reason));
}

template <class Inspector>
bool inspect(Inspector& f, transfer_started& x) {
    return f.object(x).fields(f.field("header", x.header));
}

template <class Inspector>
bool inspect(Inspector& f, offer_regions& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("regions", x.regions));
}

template <class Inspector>
bool inspect(Inspector& f, packed_instance& x) {
    return f.object(x).fields(f.field("header", x.header), f.field("digest", x.digest),
                              f.field("ranks", x.ranks));
}

template <class Inspector>
bool inspect(Inspector& f, instance_unchanged& x) {
    return f.object(x).fields(f.field("header", x.header));
}

template <class Inspector>
bool inspect(Inspector& f, session_wanted& x) {
    return f.object(x).fields(f.field("header", x.header));
}

} // namespace kvferry
