// SPDX-License-Identifier: Apache-2.0
// What can go wrong: each value says who raises it and what the caller does about it.
#pragma once

#include "messages/inspect_enum.hpp"

#include <caf/error.hpp>
#include <caf/expected.hpp>
#include <caf/is_error_code_enum.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace kvferry {

/// The reasons. Numbers travel between ranks: append only, never reuse one.
enum class errc : std::uint8_t {
    /// No error; never raised.
    none = 0,
    /// Facade and actors: the call is wrong in every state. Correct the call.
    invalid_argument = 1,
    /// Codec: the bytes are not one of our messages. The link that sent them is closed.
    malformed_message = 2,
    /// Codec, peer_link: the peer speaks a protocol version that this rank does not, or gives a
    /// reason that only newer releases know. Upgrade one release at a time.
    protocol_mismatch = 3,
    /// peer_link: the peer did not show this rank's link token. Ask this instance's info again.
    /// Connections and the start of a worker: whoever is, or could be, on the other side does not
    /// have
    /// the deployment's secret, or is another user. Give all ranks the same secret.
    foreign_peer = 4,
    /// peer_link: a message of or for an earlier incarnation. Nothing to do: links are made again.
    stale_incarnation = 5,
    /// Planner: the two layouts cannot be mapped; names the field and both values.
    layout_mismatch = 6,
    /// Planner: a rank published no page table. Publish one before the first transfer.
    missing_layout = 7,
    /// Planner: an address outside every registered region, or bytes covered twice.
    plan_invalid = 8,
    /// Any actor: a maximum of limits.hpp is reached; names it. Send less at once or raise the
    /// limit.
    limit_exceeded = 9,
    /// rank_info_server: not all ranks of the instance have registered yet. Retry later.
    instance_incomplete = 10,
    /// Pools and regions: memory could not be reserved or registered; carries the system's reason.
    registration_failed = 11,
    /// info_link, peer_link: nobody answered there in time. Check the endpoint, then retry.
    dial_failed = 12,
    /// peer_link: the link ended while it was needed. Open the session again.
    link_lost = 13,
    /// Same-host link: the peer's process is proven gone. Open the session elsewhere.
    peer_gone = 14,
    /// Sessions, dials: the wait reached its deadline; names what was waited for.
    deadline_exceeded = 15,
    /// Sessions: somebody cancelled; says which side.
    cancelled = 16,
    /// Sender, receiver: the session is unknown, finished, or of another attempt.
    gone = 17,
    /// Facade: a session, region or server with this id already exists.
    duplicate = 18,
    /// I/O actors: the transfer failed and nothing of it is in flight any more.
    transfer_failed = 19,
    /// I/O actors: the transfer failed and bytes may still move; memory stays on loan.
    transfer_in_doubt = 20,
    /// Any actor: the worker is stopping or has stopped.
    stopped = 21,
    /// I/O actors: a system call failed; carries call and errno text.
    system_call_failed = 22,
    /// fabric_io: UCX refused a call; carries call and status text.
    ucx_failed = 23,
    /// cuda_io: CUDA refused a call; carries call and status text.
    cuda_failed = 24,
    /// handle(): a handler or a host callback threw; carries what(). A bug: report it.
    handler_failed = 25,
    /// Facade: the machine, the build or the actor system lacks something; says what.
    unsupported = 26,
    /// Host side checks: the bytes that arrived are not the bytes that were sent.
    digest_mismatch = 27,
    /// rx_session: the request runs on another DP group of the context. Forget it.
    not_selected = 28,
    /// Facade: a stop could not prove that nobody touches the rank's memory; names what is kept.
    /// Free and reuse none of it; end the process.
    not_proven = 29,
};

/// Largest value in use.
inline constexpr auto errc_last = errc::not_proven;

std::string to_string(errc);

template <class Inspector>
bool inspect(Inspector& f, errc& x) {
    return inspect_enum(f, x, errc_last);
}

/// An error with a reason and a text that names the ids concerned and what to do.
[[gnu::cold]] caf::error make_error(errc code, std::string text);

/// The same error with `context: ` before its text; the reason stays.
[[gnu::cold]] caf::error add_context(const caf::error& cause, std::string_view context);

/// The reason inside an error; errors of other categories count as handler_failed.
errc code_of(const caf::error&);

/// The text inside an error, without the name of its reason.
std::string text_of(const caf::error&);

/// An error as a line for people: `reason: text`.
std::string describe(const caf::error&);

struct wire_error;

/// Sets the reason that a peer has told by its number.
void read_code(wire_error&, std::uint8_t number);

/// An error in the form in which it travels between ranks.
struct wire_error {
    errc code = errc::none;
    std::string text;

    friend bool operator==(const wire_error&, const wire_error&) = default;

    /// A reason that this release does not know counts as protocol_mismatch; its number is told.
    template <class Inspector>
    friend bool inspect(Inspector& f, wire_error& x) {
        auto number = static_cast<std::uint8_t>(x.code);
        const auto ok = f.object(x).fields(f.field("code", number), f.field("text", x.text));
        if constexpr (Inspector::is_loading)
            if (ok)
                read_code(x, number);
        return ok;
    }
};

/// Conversions. Whoever encodes a message cuts the text (cut_error_text).
wire_error to_wire(const caf::error&);
caf::error from_wire(const wire_error&);

} // namespace kvferry
