// SPDX-License-Identifier: Apache-2.0
// The codec's promises: every message comes back unchanged, and nothing else is accepted.
#include "messages/wire/codec.hpp"
#include "tests/messages/wire/random_message.hpp"
#include "tests/support/allocation_counter.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::size_t bytes_max = limits{}.message_bytes_max;

constexpr std::size_t version_at = 4;
constexpr std::size_t message_at = 6;
constexpr std::size_t sender_at = 7;
/// Behind the lengths of the message and of its header.
constexpr std::size_t header_at = frame_prefix_bytes + 8;

byte_buffer encoded(const wire_message& message) {
    auto frame = encode(message, bytes_max);
    REQUIRE(frame);
    return std::move(*frame);
}

template <class Message>
byte_buffer encoded_random(std::uint64_t seed = 1) {
    std::mt19937_64 source{seed};
    return encoded(random_message(wire_message{Message{}}.index(), source));
}

errc refusal(const byte_buffer& frame, std::size_t limit = bytes_max) {
    auto result = decode(frame, limit);
    return result ? errc::none : code_of(result.error());
}

std::string refusal_text(const byte_buffer& frame) {
    auto result = decode(frame, bytes_max);
    return result ? "" : describe(result.error());
}

/// A frame whose body begins as `frame` does, up to byte `keep`, and goes on with `rest`.
byte_buffer spliced(const byte_buffer& frame, std::size_t keep, std::initializer_list<int> rest) {
    byte_buffer result{frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(keep)};
    for (auto x : rest)
        result.push_back(static_cast<caf::byte>(x));
    return result;
}

} // namespace

TEST_CASE("codec: every message of the allow-list comes back as it was") {
    const auto seed = random_seed(20240501);
    CAPTURE(seed);
    std::mt19937_64 source{seed};
    for (std::size_t index = 0; index < message_types; ++index) {
        for (int round = 0; round < 50; ++round) {
            const auto message = random_message(index, source);
            CAPTURE(name_of(message));
            const auto frame = encoded(message);
            auto back = decode(frame, bytes_max);
            REQUIRE_MESSAGE(back, describe(back.error()));
            CHECK(back->index() == index);
            CHECK(header_of(*back) == header_of(message));
            // Equal bytes mean equal values: random_filler has proven that inspect() names every
            // member.
            CHECK(encoded(*back) == frame);
        }
    }
}

TEST_CASE("codec: default values come back as they were") {
    for (std::size_t index = 0; index < message_types; ++index) {
        auto message = [index]<std::size_t... Is>(std::index_sequence<Is...>) {
            wire_message result;
            ((Is == index ? void(result.emplace<Is>()) : void()), ...);
            return result;
        }
        (std::make_index_sequence<message_types>{});
        const auto frame = encoded(message);
        auto back = decode(frame, bytes_max);
        REQUIRE(back);
        CHECK(encoded(*back) == frame);
    }
}

TEST_CASE("codec: values survive one by one") {
    kv_agent_result sent;
    sent.header.sender = {0x0102030405060708};
    sent.header.receiver = {~std::uint64_t{0}};
    sent.header.request = {rid_max};
    sent.header.piece = {{7}, true};
    sent.header.kind = payload_kind::kv;
    sent.result = agent_result::in_doubt;
    sent.bytes = std::uint64_t{1} << 40;
    sent.route = "direct: no same-host link";
    sent.error = {errc::digest_mismatch, "block 3"};
    auto back = decode(encoded(sent), bytes_max);
    REQUIRE(back);
    REQUIRE(std::holds_alternative<kv_agent_result>(*back));
    const auto& got = std::get<kv_agent_result>(*back);
    CHECK(got.header == sent.header);
    CHECK(got.result == agent_result::in_doubt);
    CHECK(got.bytes == sent.bytes);
    CHECK(got.route == sent.route);
    CHECK(got.error == sent.error);
}

TEST_CASE("codec: the way of a report is a value; of an older writer, that only has words, it is "
          "the first one") {
    kv_agent_result sent;
    sent.route = "staged by cuda:0: it is not mapped";
    sent.way = route::direct; // contradicts the words: they are for people
    const auto way_of = [](const kv_agent_result& x) {
        const auto back = decode(encoded(x), bytes_max);
        REQUIRE(back);
        return std::get<kv_agent_result>(*back).way;
    };
    CHECK(way_of(sent) == route::direct);

    sent.header.version = oldest_protocol_version;
    CHECK(way_of(sent) == route::staged);
    sent.route = "mapped";
    CHECK(way_of(sent) == route::mapped);
    sent.route = "direct: asked for";
    CHECK(way_of(sent) == route::direct);
    for (const auto* words : {"", "by a way that nobody knows", "map"}) {
        sent.route = words;
        CHECK(way_of(sent) == route::none);
    }
}

TEST_CASE("codec: a way that does not exist makes a report malformed") {
    kv_agent_result sent;
    const auto other = encoded(sent);
    sent.way = route::staged;
    auto frame = encoded(sent);
    REQUIRE(decode(frame, bytes_max));
    *std::mismatch(frame.begin(), frame.end(), other.begin()).first = caf::byte{route_count};
    const auto back = decode(frame, bytes_max);
    REQUIRE_FALSE(back);
    CHECK(code_of(back.error()) == errc::malformed_message);
}

TEST_CASE("codec: the prefix alone routes a frame") {
    const auto frame = encoded_random<request_data>();
    const auto message = decode(frame, bytes_max);
    REQUIRE(message);
    const byte_view prefix{frame.data(), frame_prefix_bytes};
    auto seen = peek(prefix);
    REQUIRE(seen);
    CHECK(seen->version == protocol_version);
    CHECK(seen->message == message->index());
    CHECK(seen->sender == header_of(*message).sender);
    CHECK(seen->receiver == header_of(*message).receiver);
    for (std::size_t size = 0; size < frame_prefix_bytes; ++size) {
        auto cut = peek(byte_view{frame.data(), size});
        REQUIRE_FALSE(cut);
        CHECK(code_of(cut.error()) == errc::malformed_message);
    }
}

TEST_CASE("codec: bytes on the wire do not change with a release") {
    // What a peer of the same protocol version reads; structs grow at their end only; any other change
    // needs a new protocol_version.
    link_health message;
    message.header.sender = {0x1122334455667788};
    message.header.receiver = {2};
    message.header.sequence = 3;
    message.nonce = 0x0a0b;
    message.answer = true;
    const auto frame = encoded(message);
    std::string hex;
    for (auto x : frame) {
        static constexpr auto digits = "0123456789abcdef";
        hex += digits[caf::to_integer<unsigned>(x) >> 4];
        hex += digits[caf::to_integer<unsigned>(x) & 15];
    }
    CHECK(hex
          == "6b766679"
             "0007"
             "06"
             "1122334455667788"
             "0000000000000002" // prefix
             "00000056"
             "00000049" // lengths of the message and of its header
             "0007"
             "1122334455667788"
             "0000000000000002" // version, incarnations
             "0000000000000000"
             "0000000000000000" // rid, attempt
             "00000000"
             "00000000"
             "00"
             "00000000"
             "00" // slices, last, writer, kind
             "0000000000000003"
             "0000000000000000"
             "0000000000000000" // sequence, trace
             "00"               // relay
             "0000000000000a0b"
             "01");
}

TEST_CASE("codec: a frame cut at any byte is refused") {
    std::mt19937_64 source{random_seed(7)};
    for (std::size_t index = 0; index < message_types; ++index) {
        const auto frame = encoded(random_message(index, source));
        for (std::size_t size = 0; size < frame.size(); ++size) {
            const byte_buffer cut{frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size)};
            CAPTURE(index);
            CAPTURE(size);
            CHECK(refusal(cut) == errc::malformed_message);
        }
    }
}

TEST_CASE("codec: trailing bytes are refused") {
    auto frame = encoded_random<gone>();
    frame.push_back(caf::byte{0});
    CHECK(refusal(frame) == errc::malformed_message);
    CHECK(refusal_text(frame).find("1 bytes too many") != std::string::npos);
}

TEST_CASE("codec: a number beyond the allow-list is one of a newer release, or nonsense from an "
          "older one") {
    gone old;
    old.header.version = oldest_protocol_version;
    for (auto number = message_types; number < 256; ++number) {
        auto frame = encoded_random<gone>();
        frame[message_at] = static_cast<caf::byte>(number);
        CHECK(refusal(frame) == errc::protocol_mismatch);
        frame = encoded(old);
        frame[message_at] = static_cast<caf::byte>(number);
        CHECK(refusal(frame) == errc::malformed_message);
    }
}

TEST_CASE("codec: a foreign prefix is refused") {
    for (std::size_t at = 0; at < version_at; ++at) {
        auto frame = encoded_random<gone>();
        frame[at] ^= caf::byte{1};
        CHECK(refusal(frame) == errc::malformed_message);
    }
}

TEST_CASE("codec: a version outside the range is a protocol_mismatch that names both") {
    auto frame = encoded_random<gone>();
    const auto range = "versions " + std::to_string(oldest_protocol_version) + " to "
                       + std::to_string(protocol_version);
    for (const auto version : {oldest_protocol_version - 1, protocol_version + 1}) {
        frame[version_at + 1] = static_cast<caf::byte>(version);
        CHECK(refusal(frame) == errc::protocol_mismatch);
        const auto text = refusal_text(frame);
        CHECK(text.find("version " + std::to_string(version)) != std::string::npos);
        CHECK(text.find(range) != std::string::npos);
    }
    // Another version may use this number for anything: the error names the version.
    frame[message_at] = caf::byte{250};
    CHECK(refusal(frame) == errc::protocol_mismatch);
}

TEST_CASE("codec: a header that contradicts the prefix is refused") {
    for (std::size_t at :
         {sender_at, sender_at + 8, header_at + 1, header_at + 2, header_at + 10}) {
        auto frame = encoded_random<gone>();
        frame[at] ^= caf::byte{0x40};
        CAPTURE(at);
        CHECK(refusal(frame) == errc::malformed_message);
        CHECK(refusal_text(frame).find("disagree") != std::string::npos);
    }
}

TEST_CASE("codec: a number that is no enumerator is refused") {
    struct row {
        std::string what;
        wire_message first;
        wire_message second;
        int first_bad;
    };
    message_header about_aux;
    about_aux.kind = payload_kind::aux;
    const row rows[] = {{"side", gone{{}, side::context, {}}, gone{{}, side::generation, {}}, 2},
                        {"agent_result", aux_agent_result{},
                         aux_agent_result{{}, agent_result::in_doubt, {}, {}}, 3},
                        {"payload_kind", link_health{}, link_health{about_aux, 0, false}, 3}};
    for (const auto& [what, first, second, first_bad] : rows) {
        CAPTURE(what);
        auto bent = encoded(first);
        const auto other = encoded(second);
        const auto [here, there] =
            std::mismatch(bent.begin(), bent.end(), other.begin(), other.end());
        REQUIRE(here != bent.end());
        for (auto number = 0; number < 256; ++number) {
            CAPTURE(number);
            *here = static_cast<caf::byte>(number);
            CHECK(refusal(bent) == (number < first_bad ? errc::none : errc::malformed_message));
        }
    }
}

TEST_CASE("codec: a list that claims more than the frame holds costs no memory") {
    // Of instance_info the list of ranks is the last field: its length is the last byte. In version
    // 6 no length of a struct is in the way.
    message_header plain;
    plain.version = 6;
    const auto empty = encoded(instance_info{plain, {}});
    const auto bare = spliced(empty, empty.size() - 1, {0xff, 0xff, 0xff, 0xff, 0x0f});
    // The same for a text, for a list with a beginning, and with a length of endless bytes.
    const auto no_text = encoded(termination{plain, {}});
    const auto text = spliced(no_text, no_text.size() - 1, {0xff, 0xff, 0xff, 0xff, 0x0f});
    const auto ranks = spliced(empty, empty.size() - 1, {0xff, 0xff, 0xff, 0xff, 0x0f, 1, 'a'});
    const auto endless =
        spliced(empty, empty.size() - 1, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
    for (const auto* frame : {&bare, &text, &ranks, &endless}) {
        std::size_t peak = 0;
        auto code = errc::none;
        {
            allocation_scope counting;
            code = refusal(*frame);
            peak = counting.peak_bytes();
        }
        CHECK(code == errc::malformed_message);
        CHECK(peak < 4096);
    }
}

TEST_CASE("codec: memory of a decoded message is bounded by its frame") {
    // The worst case that the messages allow: an empty role name takes 1 byte in a frame and 32
    // bytes in memory.
    instance_info message;
    auto& group = message.ranks.emplace_back().pages.emplace().groups.emplace_back();
    group.views.emplace_back().roles.resize(1 << 20);
    const auto frame = encoded(message);
    std::size_t peak = 0;
    {
        allocation_scope counting;
        auto back = decode(frame, bytes_max);
        CHECK(back);
        peak = counting.peak_bytes();
    }
    CHECK(peak >= (32 << 20)); // the allocation counter works
    CHECK(peak <= frame.size() * decode_memory_factor);
}

TEST_CASE("codec: frames over the limit are refused on both ways") {
    kv_agent_result message;
    message.route.assign(1000, 'x');
    const auto frame = encoded(message);
    CHECK(refusal(frame, frame.size()) == errc::none);
    CHECK(refusal(frame, frame.size() - 1) == errc::limit_exceeded);
    CHECK(encode(message, frame.size()));
    auto refused_frame = encode(message, frame.size() - 1);
    REQUIRE_FALSE(refused_frame);
    CHECK(code_of(refused_frame.error()) == errc::limit_exceeded);
    CHECK(text_of(refused_frame.error()).find("message_bytes_max") != std::string::npos);
}

TEST_CASE("codec: a request grows with its blocks, not with what a block is made of") {
    auto request_of = [](std::int32_t blocks) {
        request_data request;
        request.target.groups.emplace_back();
        for (std::int32_t slot = 0; slot < blocks; ++slot)
            request.target.groups.back().slots.push_back(2'000'000'000 - slot);
        return encoded(request).size();
    };
    // 1000 blocks of a group of any number of layers, with the slot numbers that need most bytes.
    CHECK(request_of(1000) <= 16 * 1024);
    CHECK(request_of(2000) - request_of(1000) == request_of(3000) - request_of(2000));
}
