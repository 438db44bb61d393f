// SPDX-License-Identifier: Apache-2.0
// Takes a stream apart. The bytes of puts are read straight into the pages that they are for;
// everything else is collected, within bounds, and handed on whole.
#pragma once

#include "messages/errors.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/tcp/byte_stream.hpp"
#include "transport/tcp/tcp_record.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace kvferry {

class tcp_reader {
public:
    /// Gets records that are not the fabric's; an error ends the stream.
    using other_records = std::function<caf::error(tcp_record, byte_view payload)>;

    /// `user` may be null: then messages of the fabric are malformed. `payload_bytes_max`: of what
    /// is collected; of a put's message that is read into place, any length up to its head's.
    tcp_reader(wire_user* user, std::uint64_t payload_bytes_max, other_records others)
        : user_(user), payload_bytes_max_(payload_bytes_max), others_(std::move(others)) {}

    struct progress {
        /// Bytes that were read.
        std::uint64_t bytes = 0;
        /// The peer sends nothing more.
        bool ended = false;
        /// The connection is lost: malformed_message, or link_lost with the system's reason.
        caf::error problem = {};
        /// Another thread may make the next read: begin_apart().
        bool is_long_next = false;
        /// The last read has got all that it asked for: more has come, most likely.
        bool is_full = false;
    };

    /// Reads until the stream blocks, ends, or `budget` bytes have come; with `stops_at_long` until
    /// a long read into pages is next.
    progress read(byte_stream&, std::uint64_t budget, bool stops_at_long = false);

    /// Where another thread is to read the next bytes to, in one go; nothing else is called until
    /// that has been made and end_apart() says what it moved. Empty: they are refused by now.
    std::span<const iovec> begin_apart();
    progress end_apart(bytes_moved);
    /// That call has been made; what it moved is of no use any more.
    void forget_apart() { user_->read_ended(apart_); }

    /// From the next record on messages of the fabric are taken.
    void hear(wire_user* user, std::uint64_t payload_bytes_max) {
        user_ = user;
        payload_bytes_max_ = payload_bytes_max;
    }

    /// Bytes of memory that it holds.
    std::size_t held() const {
        return ahead_.capacity() + head_.capacity() + collected_.capacity();
    }

private:
    enum class step : std::uint8_t { record, head, payload };

    caf::error take_ahead();
    caf::error take_record();
    caf::error begin_payload();
    caf::error finish();
    bool is_long() const;
    bool take(bytes_moved, progress&);
    std::size_t take_payload(const std::byte* from, std::size_t count);
    void gather();
    void advance(std::size_t count);
    std::size_t ready() const { return end_ - begin_; }
    const std::byte* at() const { return ahead_.data() + begin_; }
    bool is_fabrics() const { return record_.what < fabric_message_count; }

    wire_user* user_;
    std::uint64_t payload_bytes_max_;
    other_records others_;

    step step_ = step::record;
    record_head record_;
    byte_buffer head_;
    landing landing_;
    /// Of the payload: bytes that are still to come, and where the next one belongs.
    std::uint64_t left_ = 0;
    std::size_t place_ = 0;
    std::size_t place_offset_ = 0;
    byte_buffer collected_;
    /// Bytes that were read ahead of what was asked for.
    std::vector<std::byte> ahead_;
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
    /// What is read next, and its bytes.
    std::vector<iovec> parts_;
    std::uint64_t asked_ = 0;
    /// The user's number of a read on another thread.
    std::uint64_t apart_ = 0;
};

} // namespace kvferry
