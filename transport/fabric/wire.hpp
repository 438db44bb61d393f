// SPDX-License-Identifier: Apache-2.0
// What carries a fabric's messages: a wire, with one connection for each link. Everything else
// (links, puts, credit, fences, regions) is fabric_io's, so a new wire is these two classes in one
// file, and tests/transport/fabric/fabric_conformance.hpp.
//
// A wire lives on its fabric's thread. It calls its wire_user from its own turns only, never from
// inside a call of the fabric.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/fabric.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/priority.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/message_sums.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// What a connection reports.
struct wire_event {
    enum class kind : std::uint8_t {
        /// The memory of a piece is the fabric's again.
        posted,
        /// The peer has everything that was sent before; what was put is visible there.
        flushed,
        /// The connection is of no use any more. The wire ends it by itself: `closed` follows.
        broken,
        /// The last event of a connection: nothing of it is under way.
        closed,
    };
    kind what = kind::posted;
    endpoint_id endpoint;
    std::uint64_t tag = 0;
    /// Why it broke.
    caf::error reason = {};
};

/// How much of puts a connection takes now.
struct wire_room {
    /// 0: nothing; the wire calls on_progress() when it takes more.
    std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max();
    /// Longest piece by message.
    std::uint64_t piece_bytes_max = 0;
    /// Bytes that one put may post before the next one on the connection gets its turn.
    std::uint64_t turn_bytes_max = std::uint64_t{256} << 10;
    /// Bytes and stretches of a put that travel as one message (send_gathered); 0 stretches: each
    /// stretch is a message of its own. Never above put_bundle.hpp's maximum.
    std::uint64_t bundle_bytes_max = 0;
    std::size_t bundle_stretches_max = 0;
};

/// Where the bytes of a put's message belong, for a wire that reads a stream (wire_user::land).
struct landing {
    enum class kind : std::uint8_t {
        /// The fabric takes the message as a whole: arrived().
        whole,
        /// In memory of this rank: read into `places`, in this order, then landed().
        in_place,
        /// Nowhere, since it is refused: read and forget, then landed().
        refused,
    };
    kind how = kind::whole;
    std::vector<std::span<std::byte>> places = {};
    /// The fabric's: of which put, when that was decided, what its bytes must add up to, why it was
    /// refused.
    write_head put = {};
    std::optional<message_sums> sums = {};
    std::uint64_t decided = 0;
    caf::error problem = {};
};

/// The fabric, as its wire sees it.
class wire_user {
public:
    /// A whole message of a peer, valid during the call. It is stored or placed; the wire is not
    /// called.
    virtual void arrived(fabric_message, byte_view head, byte_view payload) = 0;

    /// The head of a message whose `bytes` bytes of payload are still to be read. A wire that hands
    /// on whole messages never asks.
    virtual landing land(fabric_message, byte_view /*head*/, std::uint64_t /*bytes*/) { return {}; }
    /// To be asked before each single read into the places of a landing: the rank may have taken
    /// its memory back since. False: the rest is refused, and no byte may be written any more.
    virtual bool may_land(fabric_message, byte_view /*head*/, landing&) { return false; }
    /// All of it has been read.
    virtual void landed(landing&&) {}
    /// Another thread of the wire makes a read into places that may_land(): one that ends soon,
    /// whatever the peer does. Until read_ended() with this number whoever asks whether these
    /// places are quiet waits.
    virtual std::uint64_t read_begins(const landing&) { return 0; }
    virtual void read_ended(std::uint64_t) {}

    /// To be called after messages have arrived, when there are events, and when a connection takes
    /// more. True: there may be more to do at once.
    virtual bool on_progress() = 0;

    /// Runs `what` later on this thread, if the fabric still lives then.
    virtual void after(std::chrono::nanoseconds, std::function<void()> what) = 0;

protected:
    ~wire_user() = default;
};

class wire_connection {
public:
    virtual ~wire_connection() = default;

    /// With a tag above 0, `posted` follows.
    virtual void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) = 0;

    /// The same with memory that stays the caller's until `posted`. True: the bytes have been
    /// taken already, and no event follows.
    virtual bool send_from(fabric_message, byte_view head, byte_view payload,
                           std::uint64_t tag) = 0;

    /// The same with a payload of several parts. Only where room() takes bundles.
    virtual bool send_gathered(fabric_message what, byte_view head,
                               std::span<const byte_view> payload, std::uint64_t tag) {
        byte_buffer whole;
        for (const auto& part : payload)
            whole.insert(whole.end(), part.begin(), part.end());
        send(what, head, std::move(whole), tag);
        return false;
    }

    /// True: it fills in the sums of messages by itself (say_sums), since it reads their bytes
    /// later.
    virtual bool says_sums() const { return false; }

    /// `flushed` follows, with the tag.
    virtual void flush(std::uint64_t tag) = 0;

    /// `closed` follows, after an event for each operation under way. By force: the peer is not
    /// waited for.
    virtual void close(bool force) = 0;

    /// Messages that the peer has not taken.
    virtual std::size_t waiting() const { return 0; }

    /// Called when a put has something to post.
    virtual wire_room room() = 0;

    /// Each class has a way of its own, so that none waits behind another one's bytes.
    virtual bool keeps_classes_apart() const { return false; }
    /// Whose room() and sends of put bytes and ends are for this class: the connection itself, or a
    /// part of it. What else such a part has is not used.
    virtual wire_connection& way_of(priority) { return *this; }

    // -- for wires whose hardware writes into the peer's memory by itself ---------------------

    virtual bool by_rma() const { return false; }

    /// What follows the head in the access key of the peer's region number `region`.
    virtual caf::error learn_key(std::uint32_t /*region*/, byte_view /*key*/) { return {}; }

    /// `posted` follows; the bytes stay the caller's until then.
    virtual void put(std::uint32_t /*region*/, std::uint64_t /*address*/, byte_view /*bytes*/,
                     std::uint64_t /*tag*/) {}
};

class wire {
public:
    virtual ~wire() = default;

    /// Called once, before everything else.
    virtual void start(wire_user&) = 0;

    /// Where peers connect to, sealed.
    virtual byte_buffer address() const = 0;

    /// For the log: "tcp", "loopback".
    virtual std::string transports() const = 0;

    /// Labels access keys, so that keys of another kind of wire are refused.
    virtual std::string_view key_label() const = 0;

    /// False: hardware may write into registered memory as well, and asks nobody.
    virtual bool by_message() const { return true; }

    /// Why a host's link cannot be opened now; none when it can. Answers to writers may use what is
    /// left then.
    virtual caf::error check_room() { return {}; }

    /// An address that nobody listens at is a connection that breaks later, or dial_failed where
    /// that shows at once. dial_failed when it is no address.
    virtual caf::expected<std::unique_ptr<wire_connection>>
    connect(incarnation peer, byte_view address, endpoint_id) = 0;

    /// What peers need besides the head of an access key, empty where they only send messages; or
    /// why the memory cannot be registered.
    virtual caf::expected<byte_buffer> map(region_id, const register_region&) {
        return byte_buffer{};
    }
    virtual void unmap(region_id) {}

    /// Events since the last call.
    virtual std::vector<wire_event> take_events() = 0;

    /// Puts have something to post: on_progress() is to be called soon. A wire that polls does
    /// nothing.
    virtual void wake() {}

    /// One round, for a fabric that ends, and when deadline_tick has reached the actor.
    virtual void progress() {}

    /// Ends everything at once. Connections still exist and are not used any more.
    virtual void destroy() noexcept {}
};

} // namespace kvferry
