// SPDX-License-Identifier: Apache-2.0
// The header of every message between ranks, and what a report reports.
#pragma once

#include "messages/inspect_enum.hpp"
#include "messages/limits.hpp"
#include "messages/values/ids.hpp"

#include <cstdint>
#include <string>

namespace kvferry {

/// Sender's piece: which send(slice), and whether it is the final one.
struct send_piece {
    slice_index index;
    bool last = false;

    friend bool operator==(const send_piece&, const send_piece&) = default;
};

/// What a message is about; none: about neither.
enum class payload_kind : std::uint8_t { none = 0, kv = 1, aux = 2 };

/// The side of a transfer; says which of two sessions with the same rid is meant.
enum class side : std::uint8_t { context = 0, generation = 1 };

/// How a writer's piece ended.
enum class agent_result : std::uint8_t {
    /// All bytes are visible at the target.
    success = 0,
    /// It failed and nothing of it is in flight any more.
    failed = 1,
    /// It failed and the end of a submitted operation is unknown.
    in_doubt = 2,
};

/// Connects the events of one transfer across actors and ranks; 0 means untraced.
struct trace_context {
    std::uint64_t trace = 0;
    std::uint64_t parent = 0;

    friend bool operator==(const trace_context&, const trace_context&) = default;
};

/// Identities of one message between two ranks. Fields that a message does not need stay 0.
struct message_header {
    std::uint16_t version = protocol_version;
    incarnation sender;
    incarnation receiver;
    rid request;
    kvferry::attempt attempt;
    /// Which receive(slice) of the rx_session.
    slice_index receive_slice;
    /// Which send(slice) of the tx_session.
    send_piece piece;
    /// The context rank that writes.
    rank_id writer;
    payload_kind kind = payload_kind::none;
    /// Counts the messages of one link in one direction.
    std::uint64_t sequence = 0;
    trace_context trace;
    /// Between two ranks of one instance: the writer hands on what it has received. The context
    /// rank with the same number, and its session of the same rid, are others.
    bool relay = false;

    friend bool operator==(const message_header&, const message_header&) = default;
};

std::string to_string(payload_kind);
std::string to_string(side);
std::string to_string(agent_result);

/// "rid 7 attempt 12 slice 0/0 writer 3 kv", for logs and errors.
std::string describe(const message_header&);

template <class Inspector>
bool inspect(Inspector& f, send_piece& x) {
    return f.object(x).fields(f.field("index", x.index), f.field("last", x.last));
}

template <class Inspector>
bool inspect(Inspector& f, payload_kind& x) {
    return inspect_enum(f, x, payload_kind::aux);
}

template <class Inspector>
bool inspect(Inspector& f, side& x) {
    return inspect_enum(f, x, side::generation);
}

template <class Inspector>
bool inspect(Inspector& f, agent_result& x) {
    return inspect_enum(f, x, agent_result::in_doubt);
}

template <class Inspector>
bool inspect(Inspector& f, trace_context& x) {
    return f.object(x).fields(f.field("trace", x.trace), f.field("parent", x.parent));
}

template <class Inspector>
bool inspect(Inspector& f, message_header& x) {
    return f.object(x).fields(
        f.field("version", x.version), f.field("sender", x.sender), f.field("receiver", x.receiver),
        f.field("request", x.request), f.field("attempt", x.attempt),
        f.field("receive_slice", x.receive_slice), f.field("piece", x.piece),
        f.field("writer", x.writer), f.field("kind", x.kind), f.field("sequence", x.sequence),
        f.field("trace", x.trace), f.field("relay", x.relay));
}

} // namespace kvferry
