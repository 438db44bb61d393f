// SPDX-License-Identifier: Apache-2.0
// Pure: how a rank answers a frame of the info exchange, also one that it cannot serve.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"

#include <caf/error.hpp>

#include <cstddef>

namespace kvferry {

class info_answers {
public:
    /// Used: protocol, message_bytes_max, error_text_bytes_max. A refusal's text is cut to
    /// refusal_text_bytes_max, however much error_text_bytes_max lets through.
    info_answers(const limits& bounds, incarnation from, std::size_t refusal_text_bytes_max)
        : bounds_(bounds), from_(from), refusal_text_bytes_max_(refusal_text_bytes_max) {}

    /// Speaks the asker's version, or ours when that is older.
    message_header header(const message_header& asked) const;
    /// What is too large for a frame is refused by the limit's name.
    info_frame framed(const wire_message&) const;
    info_frame refusal(const message_header& asked, const caf::error&) const;

private:
    info_frame refused_by(message_header answered, const caf::error&) const;

    const limits& bounds_;
    const incarnation from_;
    const std::size_t refusal_text_bytes_max_;
};

} // namespace kvferry
