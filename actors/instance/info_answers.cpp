// SPDX-License-Identifier: Apache-2.0
#include "actors/instance/info_answers.hpp"

#include "messages/wire/codec.hpp"

#include <algorithm>
#include <utility>

namespace kvferry {

message_header info_answers::header(const message_header& asked) const {
    message_header result;
    result.version = std::min(asked.version, bounds_.protocol);
    result.sender = from_;
    result.receiver = asked.sender;
    return result;
}

info_frame info_answers::framed(const wire_message& message) const {
    auto frame = encode(message, bounds_.message_bytes_max);
    return frame ? info_frame{std::move(*frame)} : refused_by(header_of(message), frame.error());
}

info_frame info_answers::refusal(const message_header& asked, const caf::error& reason) const {
    return refused_by(header(asked), reason);
}

/// Always fits: its text is cut, and no other field of it varies in size.
info_frame info_answers::refused_by(message_header answered, const caf::error& reason) const {
    wire_message answer = refused{std::move(answered), side::generation, to_wire(reason)};
    cut_error_text(answer, std::min(bounds_.error_text_bytes_max, refusal_text_bytes_max_));
    return {std::move(encode(answer, limits{}.message_bytes_max).value())};
}

} // namespace kvferry
