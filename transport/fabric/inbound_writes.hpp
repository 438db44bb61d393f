// SPDX-License-Identifier: Apache-2.0
// The target's half of puts by message: the regions that may be written, and the progress of each
// put.
//
// place() copies every byte that a peer writes here, on the loop's thread, after checking key and
// bounds. So nothing is written while the loop does something else, and neither a fenced writer nor
// a forbidden attempt is ever written for again, even when messages of it still arrive. Bytes for
// memory on a device are placed in staging memory; such a put is complete when the device has
// scattered them.
//
// A wire that reads a stream asks land() instead, and reads into place by itself, on the same
// thread. It asks again before each read, so whoever is shut out between two reads is. A read that
// another thread makes is announced, and nothing that it may write into counts as quiet before it
// has ended.
#pragma once

#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/local/copies.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/fabric/inbound_staging.hpp"
#include "transport/fabric/put_bundle.hpp"
#include "transport/fabric/wire.hpp"

#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kvferry {

/// A put is complete: tell its writer.
struct finished_writes {
    incarnation writer;
    std::uint64_t put = 0;
    /// Fabric address of the writer.
    byte_buffer return_address;
    /// Why some of it was not written.
    caf::error refused;
    /// The device may still be writing.
    bool in_doubt = false;
    /// A frame for this rank, once nothing was refused.
    byte_buffer report = {};
    /// Refused since these were not the bytes that left.
    std::optional<damaged_bytes> damaged = {};
};

/// A put may send more: tell its writer.
struct granted_credit {
    incarnation writer;
    std::uint64_t put = 0;
    /// Fabric address of the writer.
    byte_buffer return_address;
    std::uint64_t bytes = 0;
    /// Why the put is refused; none when bytes were granted.
    caf::error refused;
    bool by_reference = false;
};

class inbound_writes {
public:
    /// `puts_max`: puts remembered at a time of each writer with a link, and of all others
    /// together; beyond that the oldest one of the same writer, or of those others, is forgotten.
    explicit inbound_writes(std::size_t puts_max = 65536,
                            std::size_t chunk_bytes = limits{}.staging_piece_bytes_max)
        : staging_(chunk_bytes), puts_max_(puts_max) {}

    /// A writer must show `secret`, and with `by_attempt` an attempt that is allowed. With staging
    /// memory the region lies on the device that this memory belongs to.
    void allow(region_id, std::byte* base, std::uint64_t bytes, std::uint64_t secret,
               std::span<std::byte> staging = {}, bool by_attempt = false);

    /// False: no such region.
    bool forbid(region_id);

    /// A link to this writer is open: what it begins with a right key is remembered until lost(),
    /// whatever others send.
    void joined(incarnation writer);
    /// Puts for this attempt may write, until it is forbidden. This rank says how urgent they are.
    void allow(attempt x, priority urgency = priority::normal) { attempts_.emplace(x, urgency); }
    void forbid(attempt);
    /// All regions and all attempts, those to come included.
    void forbid_all();
    /// Whether a device, or another thread of a wire, may still be writing: for it, into it, at
    /// all.
    bool is_busy(attempt) const;
    bool is_busy(incarnation writer) const;
    bool is_busy(region_id) const;
    bool is_busy() const { return staging_.is_busy() || !reads_.empty(); }

    /// Copies a piece to its place, or remembers why it was refused: bytes that do not add up to
    /// what their writer says are placed nowhere.
    void place(const write_head&, const void* bytes, std::size_t count,
               const std::optional<message_sums>& sums = {});
    /// The same for a bundle; a bundle that is refused anywhere is written nowhere.
    void place(const put_bundle&, byte_view bytes);

    /// Where the bytes of such a message may be read into. Memory on a device: they are to be
    /// collected and placed.
    landing land(const write_head&, std::uint64_t bytes,
                 const std::optional<message_sums>& sums = {}) const;
    landing land(const put_bundle&) const;
    /// False: somebody has been shut out since it was decided; decide again.
    bool is_current(const landing& x) const { return x.decided == shut_outs_; }
    /// All its bytes have been read, into place or nowhere; those in place are still in the caches,
    /// and are compared with what the writer says they add up to.
    void landed(landing&&);
    /// Another thread reads into its places, until read_ended() with this number.
    std::uint64_t read_begins(const landing&);
    void read_ended(std::uint64_t number) { reads_.erase(number); }

    /// Notes a piece that the device reads from the writer's memory.
    void refer(const refer_head&, byte_view stretches);

    /// The writer has posted its last piece.
    void end(const write_end_head&, byte_buffer return_address, byte_buffer report = {});

    /// The writer is about to send bytes for memory on a device.
    void ask(const credit_ask_head&, byte_buffer return_address);

    /// Grants and refusals of credit since the last call.
    std::vector<granted_credit> take_granted();

    /// A scatter of staging() has ended.
    void scattered(std::uint64_t number, const transfer_done&);

    /// The last link to a writer has ended: its unused credit goes to others, and its puts lose the
    /// room of their own.
    void lost(incarnation writer);

    /// The part for memory on devices; the fabric serves what it asks for (staging_service).
    inbound_staging& staging() { return staging_; }
    const inbound_staging& staging() const { return staging_; }

    /// Puts that have become complete since the last call.
    std::vector<finished_writes> take_finished();

    /// The writer's process has ended: copies nothing of it any more, not even messages that still
    /// arrive. Kept for the last 4096 writers.
    void fence(incarnation writer);
    bool is_fenced(incarnation writer) const { return fenced_.contains(writer); }

    std::uint64_t refused_pieces() const { return refused_pieces_; }
    std::size_t puts() const;

private:
    struct region {
        std::byte* base = nullptr;
        std::uint64_t bytes = 0;
        std::uint64_t secret = 0;
        bool on_device = false;
        bool by_attempt = false;
    };
    struct put_state {
        std::uint64_t pieces = 0;
        std::optional<std::uint64_t> expected;
        byte_buffer return_address;
        byte_buffer report;
        caf::error refused;
        std::optional<damaged_bytes> damaged = {};
        bool in_doubt = false;
        /// Place in others_by_age_.
        std::uint64_t born = 0;
        attempt of;
    };

    /// On another thread.
    struct read_apart {
        incarnation writer;
        attempt of;
        /// All its places lie between these.
        std::uint64_t begin = 0;
        std::uint64_t end = 0;
        /// Regions that were taken back since, and have some of these places.
        std::vector<region_id> taken_back = {};
    };
    template <class F>
    bool any_read(F&& is_it) const;

    put_state* find(put_key);
    put_state& find_or_begin(put_key, bool shows_a_key);
    /// A head whose key is right says which attempt its put belongs to; any other is not believed.
    template <class Head>
    put_state& written_by(const Head&);
    put_state& keep_among_others(put_key, put_state);
    put_state take(put_key);
    void forget(put_key);
    template <class F>
    void for_each_put(F&& visit) const;
    template <class Head>
    bool shows_a_key(const Head&) const;
    template <class Head>
    caf::expected<const region*> find_region(const Head&) const;
    caf::expected<const region*> check(const write_head&, std::size_t count) const;
    static caf::error check_bounds(const region&, std::uint64_t number, std::uint64_t address,
                                   std::uint64_t count);
    caf::expected<std::vector<const region*>> check(const put_bundle&) const;
    caf::error place_all(put_state&, const put_bundle&, byte_view bytes);
    caf::error refer_all(const refer_head&, byte_view stretches);
    static caf::error damage(put_state&, const message_sums& said, const message_sums& came,
                             std::span<const placed_stretch>);
    void piece_over(put_key, put_state&, caf::error problem);
    void finish_if_complete(put_key);

    inbound_staging staging_;
    std::vector<granted_credit> refused_asks_;
    std::size_t puts_max_;
    std::unordered_map<region_id, region> regions_;
    /// Of each writer with a link, by number, the oldest first: numbers count up.
    std::map<incarnation, std::map<std::uint64_t, put_state>> of_members_;
    /// Of writers without a link, and puts that have shown no right key yet.
    std::map<put_key, put_state> of_others_;
    std::map<std::uint64_t, put_key> others_by_age_;
    std::unordered_map<attempt, priority> attempts_;
    /// By number.
    std::map<std::uint64_t, read_apart> reads_;
    std::uint64_t last_read_ = 0;
    bool shut_ = false;
    /// Attempts that a device may be writing for, for ever: it did not report the end.
    std::set<attempt> in_doubt_;
    std::vector<finished_writes> finished_;
    std::set<incarnation> fenced_;
    std::vector<incarnation> fenced_in_order_;
    std::uint64_t refused_pieces_ = 0;
    /// Counts fences, attempts that were forbidden and regions that were taken back.
    std::uint64_t shut_outs_ = 0;
    std::uint64_t last_born_ = 0;
};

} // namespace kvferry
