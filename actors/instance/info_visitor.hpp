// SPDX-License-Identifier: Apache-2.0
// One connection to a published rank-info server: bytes from the network in, whole questions out.
#pragma once

#include "messages/local/info_exchange.hpp"
#include "transport/secure/security.hpp"

#include <caf/span.hpp>

#include <cstddef>
#include <optional>

namespace kvferry {

class info_visitor {
public:
    info_visitor(const security&, std::size_t question_bytes_max);

    /// Bytes have come. A question when it is whole; no value: there is more to come. foreign_peer:
    /// the other side does not have the secret. malformed_message: it does not keep to the order of
    /// things.
    caf::expected<std::optional<info_frame>> take(caf::span<const caf::byte>);

    /// The server has answered its question. link_lost when the connection cannot carry it.
    caf::error answer(byte_view);

    /// What is to be sent; empty afterwards.
    byte_buffer leaving() { return std::exchange(carried_.leaving, {}); }

    /// The other side has shown the secret.
    bool proven() const { return proven_; }
    bool asking() const { return asking_; }
    /// Bytes that it keeps of what is not complete.
    std::size_t kept() const { return question_.size() + carried_.arrived.size(); }

private:
    caf::error read_question();

    std::size_t question_bytes_max_;
    bool needs_proof_;
    stream_buffers carried_;
    secure_stream_ptr stream_;
    bool shaken_ = false;
    bool proven_ = false;
    bool asking_ = false;
    /// With its length; grows with what came, not with what was announced.
    byte_buffer question_;
};

} // namespace kvferry
