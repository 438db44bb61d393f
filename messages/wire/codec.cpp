// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of frames; decoding picks the type from wire_message, nothing else.
#include "messages/wire/codec.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/wire_reader.hpp"
#include "messages/wire/wire_writer.hpp"

#include <array>
#include <exception>
#include <utility>

namespace kvferry {

namespace {

constexpr std::uint32_t magic = 0x6b766679; // "kvfy"

/// Of most messages: one allocation for them.
constexpr std::size_t short_frame_bytes = 256;

template <class... Args>
caf::error malformed(fmt::format_string<Args...> text, Args&&... args) {
    return make_error(errc::malformed_message, fmt::format(text, std::forward<Args>(args)...));
}

template <class Message>
bool load(wire_reader& source, wire_message& into) {
    return source.apply(into.emplace<Message>());
}

using loader = bool (*)(wire_reader&, wire_message&);

template <std::size_t... Is>
constexpr auto make_loaders(std::index_sequence<Is...>) {
    return std::array<loader, sizeof...(Is)>{
        &load<std::variant_alternative_t<Is, wire_message>>...};
}

constexpr auto loaders =
    make_loaders(std::make_index_sequence<std::variant_size_v<wire_message>>{});

template <class Inspector>
bool apply_prefix(Inspector& f, std::uint32_t& word, frame_prefix& x) {
    return f.value(word) && f.value(x.version) && f.value(x.message) && f.value(x.sender.value)
           && f.value(x.receiver.value);
}

/// Any message: its header comes first.
struct any_message {
    message_header header;

    template <class Inspector>
    friend bool inspect(Inspector& f, any_message& x) {
        return f.object(x).fields(f.field("header", x.header));
    }
};

bool agree(const message_header& header, const frame_prefix& prefix) {
    return header.version == prefix.version && header.sender == prefix.sender
           && header.receiver == prefix.receiver;
}

caf::error too_long(std::size_t bytes, std::size_t bytes_max) {
    return make_error(errc::limit_exceeded,
                      "a frame of {} bytes is longer than message_bytes_max = {}", bytes,
                      bytes_max);
}

} // namespace

caf::expected<byte_buffer> encode(const wire_message& message, std::size_t bytes_max) {
    byte_buffer frame;
    frame.reserve(short_frame_bytes);
    auto word = magic;
    const auto& header = header_of(message);
    frame_prefix prefix{header.version, static_cast<std::uint8_t>(message.index()), header.sender,
                        header.receiver};
    {
        wire_writer sink{frame, header.version};
        const auto ok = apply_prefix(sink, word, prefix)
                        && std::visit([&sink](const auto& x) { return sink.apply(x); }, message);
        if (!ok)
            return malformed("cannot encode {}: {}", name_of(message),
                             caf::to_string(sink.get_error()));
    }
    if (frame.size() > bytes_max)
        return too_long(frame.size(), bytes_max);
    return frame;
}

caf::expected<frame_prefix> peek(byte_view frame, std::uint16_t newest) {
    wire_reader source{frame, 0};
    std::uint32_t word = 0;
    frame_prefix result;
    if (!apply_prefix(source, word, result))
        return malformed("a frame of {} bytes is too short for a prefix", frame.size());
    if (word != magic)
        return malformed("a frame of {} bytes has a foreign prefix", frame.size());
    if (result.version < oldest_protocol_version || result.version > newest)
        return make_error(errc::protocol_mismatch,
                          "incarnation {} speaks version {}, this rank versions {} to {}: upgrade "
                          "one release at a time",
                          result.sender, result.version, oldest_protocol_version, newest);
    if (is_unknown(result) && result.version < growing_version)
        return malformed("unknown message number {} from incarnation {}", result.message,
                         result.sender);
    return result;
}

caf::expected<wire_message> decode(byte_view frame, std::size_t bytes_max,
                                   std::uint16_t newest) try {
    if (frame.size() > bytes_max)
        return too_long(frame.size(), bytes_max);
    auto prefix = peek(frame, newest);
    if (!prefix)
        return std::move(prefix.error());
    if (is_unknown(*prefix))
        return make_error(errc::protocol_mismatch,
                          "incarnation {} sends message number {}, which only newer releases know",
                          prefix->sender, prefix->message);
    wire_reader source{frame.subspan(frame_prefix_bytes), prefix->version};
    wire_message result;
    auto name = [&] {
        return std::string{name_of(result)} + " from incarnation " + to_string(prefix->sender);
    };
    if (!loaders[prefix->message](source, result))
        return malformed("{}: {}", name(), caf::to_string(source.get_error()));
    if (source.remaining() != 0)
        return malformed("{}: {} bytes too many", name(), source.remaining());
    if (!agree(header_of(result), *prefix))
        return malformed("{}: header and prefix disagree", name());
    return result;
} catch (const std::exception& error) {
    return malformed("cannot decode a frame: {}", error.what());
}

caf::expected<message_header> decode_header(byte_view frame, std::uint16_t newest) {
    auto prefix = peek(frame, newest);
    if (!prefix)
        return std::move(prefix.error());
    wire_reader source{frame.subspan(frame_prefix_bytes), prefix->version};
    any_message result;
    if (prefix->version < growing_version || !source.apply(result)
        || !agree(result.header, *prefix))
        return malformed("message number {} from incarnation {} has no header", prefix->message,
                         prefix->sender);
    return result.header;
}

} // namespace kvferry
