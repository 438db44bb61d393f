// SPDX-License-Identifier: Apache-2.0
// The target's half of puts by message: the regions that may be written, and how far each put is.
//
// Every byte that a peer writes here is copied by place(), on the loop's thread, after its key and
// its bounds have been checked. So nobody writes while the loop does something else, and a writer
// that is fenced never writes again, whatever of it is still on its way.
#pragma once

#include "messages/errors.hpp"
#include "messages/ids.hpp"
#include "messages/local_messages.hpp"
#include "transport/ucx_wire.hpp"

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
};

class inbound_writes {
public:
    /// Puts that are remembered at a time; beyond that the oldest one is forgotten.
    explicit inbound_writes(std::size_t puts_max = 65536) : puts_max_(puts_max) {}

    /// `secret` is what a writer must show.
    void allow(region_id, std::byte* base, std::uint64_t bytes, std::uint64_t secret);

    /// False: no such region.
    bool forbid(region_id);

    /// Copies a piece to its place, or remembers why not.
    void place(const write_head&, const void* bytes, std::size_t count);

    /// The writer has posted its last piece.
    void end(const write_end_head&, byte_buffer return_address);

    /// Puts that have become complete since the last call.
    std::vector<finished_writes> take_finished();

    /// The writer's process has ended: nothing of it is copied any more, for good, whatever is
    /// still on its way. Kept for the last 4096 writers.
    void fence(incarnation writer);
    bool is_fenced(incarnation writer) const { return fenced_.contains(writer); }

    std::uint64_t refused_pieces() const { return refused_pieces_; }
    std::size_t puts() const { return puts_.size(); }

private:
    struct region {
        std::byte* base = nullptr;
        std::uint64_t bytes = 0;
        std::uint64_t secret = 0;
    };
    struct put_state {
        std::uint64_t pieces = 0;
        std::optional<std::uint64_t> expected;
        byte_buffer return_address;
        caf::error refused;
        std::uint64_t born = 0;
    };
    using put_key = std::pair<std::uint64_t, std::uint64_t>;

    put_state& find(std::uint64_t sender, std::uint64_t put);
    caf::error check(const write_head&, std::size_t count, std::byte*& to) const;
    void finish_if_complete(put_key);

    std::size_t puts_max_;
    std::unordered_map<region_id, region> regions_;
    std::map<put_key, put_state> puts_;
    std::vector<finished_writes> finished_;
    std::set<incarnation> fenced_;
    std::vector<incarnation> fenced_in_order_;
    std::uint64_t refused_pieces_ = 0;
    std::uint64_t last_born_ = 0;
};

} // namespace kvferry
