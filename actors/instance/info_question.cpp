// SPDX-License-Identifier: Apache-2.0
// Connect, send the question, read the answer; the connection ends with it.
#include "actors/instance/info_question.hpp"

#include "actors/instance/info_stream.hpp"
#include "actors/instance/timed_socket.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"

#include <string>

namespace kvferry {

namespace {

caf::error stranger(std::string_view why) {
    return make_error(errc::dial_failed, "what answers there is not a rank-info server: {}", why);
}

} // namespace

caf::expected<byte_buffer> ask_over_tcp(const call_info_server& message, const security& how,
                                        const limits& bounds, clock::duration grace, int hang_up) {
    // A name that takes long comes before every deadline, because it has an error of its own.
    const auto now = clock::now();
    auto socket = timed_socket::connect(message.endpoint, {message.until + grace, hang_up},
                                        now + (message.until - now) * 3 / 4);
    if (!socket)
        return std::move(socket.error());
    if (auto error = socket->secure(how))
        return error;
    // In one piece: of two the kernel keeps the second until the first has been acknowledged.
    const auto announced = to_stream_length(message.question.size());
    byte_buffer question{announced.begin(), announced.end()};
    question.insert(question.end(), message.question.begin(), message.question.end());
    if (auto error = socket->send(question))
        return error;
    stream_length length;
    if (auto error = socket->receive(length))
        return error;
    const auto bytes = from_stream_length(length.data());
    if (bytes < frame_prefix_bytes || bytes > bounds.message_bytes_max)
        return stranger("its answer would have " + std::to_string(bytes) + " bytes");
    // The prefix first: memory for the rest is reserved only when the frame is one of ours.
    byte_buffer frame(frame_prefix_bytes);
    if (auto error = socket->receive(frame))
        return error;
    if (auto prefix = peek(frame, bounds.protocol); !prefix)
        return code_of(prefix.error()) == errc::malformed_message
                   ? stranger(text_of(prefix.error()))
                   : prefix.error();
    frame.resize(bytes);
    if (auto error = socket->receive(caf::make_span(frame).subspan(frame_prefix_bytes)))
        return error;
    return frame;
}

} // namespace kvferry
