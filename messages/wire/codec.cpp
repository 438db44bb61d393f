// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding of frames; decoding picks the type from wire_message, nothing else.
#include "messages/wire/codec.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <caf/binary_deserializer.hpp>
#include <caf/binary_serializer.hpp>

#include <array>
#include <exception>
#include <utility>

namespace kvferry {

namespace {

constexpr std::uint32_t magic = 0x6b766679; // "kvfy"
/// Most messages of a transfer are shorter: their frame grows once.
constexpr std::size_t short_frame_bytes = 256;

caf::error malformed(std::string text) {
    return make_error(errc::malformed_message, std::move(text));
}

template <class Message>
bool load(caf::binary_deserializer& source, wire_message& into) {
    return source.apply(into.emplace<Message>());
}

using loader = bool (*)(caf::binary_deserializer&, wire_message&);

template <std::size_t... Is>
constexpr auto make_loaders(std::index_sequence<Is...>) {
    return std::array<loader, sizeof...(Is)>{
        &load<std::variant_alternative_t<Is, wire_message>>...};
}

constexpr auto loaders =
    make_loaders(std::make_index_sequence<std::variant_size_v<wire_message>>{});

template <class Inspector>
bool apply_prefix(Inspector& f, std::uint32_t& word, frame_prefix& x) {
    return f.apply(word) && f.apply(x.version) && f.apply(x.message) && f.apply(x.sender.value)
           && f.apply(x.receiver.value);
}

caf::expected<frame_prefix> read_prefix(caf::binary_deserializer& source, std::size_t frame_bytes) {
    std::uint32_t word = 0;
    frame_prefix result;
    if (!apply_prefix(source, word, result))
        return malformed("a frame of " + std::to_string(frame_bytes)
                         + " bytes is too short for a prefix");
    if (word != magic)
        return malformed("a frame of " + std::to_string(frame_bytes)
                         + " bytes has a foreign prefix");
    if (result.version != protocol_version)
        return make_error(errc::protocol_mismatch,
                          "incarnation {} speaks version {}, this rank version {}: run the same "
                          "release on both sides",
                          result.sender, result.version, protocol_version);
    if (result.message >= loaders.size())
        return malformed("unknown message number " + std::to_string(result.message)
                         + " from incarnation " + to_string(result.sender));
    return result;
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
    caf::binary_serializer sink{nullptr, frame};
    auto word = magic;
    const auto& header = header_of(message);
    frame_prefix prefix{header.version, static_cast<std::uint8_t>(message.index()), header.sender,
                        header.receiver};
    auto ok = apply_prefix(sink, word, prefix)
              && std::visit([&sink](const auto& x) { return sink.apply(x); }, message);
    if (!ok)
        return malformed("cannot encode " + std::string{name_of(message)} + ": "
                         + caf::to_string(sink.get_error()));
    if (frame.size() > bytes_max)
        return too_long(frame.size(), bytes_max);
    return frame;
}

caf::expected<frame_prefix> peek(byte_view frame) {
    caf::binary_deserializer source{nullptr, frame};
    return read_prefix(source, frame.size());
}

caf::expected<wire_message> decode(byte_view frame, std::size_t bytes_max) try {
    if (frame.size() > bytes_max)
        return too_long(frame.size(), bytes_max);
    caf::binary_deserializer source{nullptr, frame};
    auto prefix = read_prefix(source, frame.size());
    if (!prefix)
        return std::move(prefix.error());
    wire_message result;
    auto name = [&] {
        return std::string{name_of(result)} + " from incarnation " + to_string(prefix->sender);
    };
    if (!loaders[prefix->message](source, result))
        return malformed(name() + ": " + caf::to_string(source.get_error()));
    if (source.remaining() != 0)
        return malformed(name() + ": " + std::to_string(source.remaining()) + " bytes too many");
    const auto& header = header_of(result);
    if (header.version != prefix->version || header.sender != prefix->sender
        || header.receiver != prefix->receiver)
        return malformed(name() + ": header and prefix disagree");
    return result;
} catch (const std::exception& error) {
    return malformed(std::string{"cannot decode a frame: "} + error.what());
}

} // namespace kvferry
