// SPDX-License-Identifier: Apache-2.0
// Structs that grow: an older reader skips what it does not know, a newer one keeps its defaults.
#include "messages/wire/codec.hpp"
#include "messages/wire/wire_reader.hpp"
#include "messages/wire/wire_writer.hpp"
#include "tests/messages/wire/random_message.hpp"
#include "tests/support/allocation_counter.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct old_part {
    std::uint32_t number = 0;

    template <class Inspector>
    friend bool inspect(Inspector& f, old_part& x) {
        return f.object(x).fields(f.field("number", x.number));
    }
};

struct old_message {
    std::string name;
    std::vector<old_part> parts;
    std::uint64_t last = 0;

    template <class Inspector>
    friend bool inspect(Inspector& f, old_message& x) {
        return f.object(x).fields(f.field("name", x.name), f.field("parts", x.parts),
                                  f.field("last", x.last));
    }
};

struct new_part {
    std::uint32_t number = 0;
    std::vector<std::string> words = {"default"};

    template <class Inspector>
    friend bool inspect(Inspector& f, new_part& x) {
        return f.object(x).fields(f.field("number", x.number), f.field("words", x.words));
    }
};

struct new_message {
    std::string name;
    std::vector<new_part> parts;
    std::uint64_t last = 0;
    std::optional<std::uint8_t> more = std::uint8_t{5};
    new_part single = {42};

    template <class Inspector>
    friend bool inspect(Inspector& f, new_message& x) {
        return f.object(x).fields(f.field("name", x.name), f.field("parts", x.parts),
                                  f.field("last", x.last), f.field("more", x.more),
                                  f.field("single", x.single));
    }
};

} // namespace

namespace kvferry {
template <>
inline constexpr std::size_t fields_of_all_versions<new_part> = 1;
template <>
inline constexpr std::size_t fields_of_all_versions<new_message> = 3;
} // namespace kvferry

namespace {

template <class T>
byte_buffer written(const T& x, std::uint16_t version = growing_version) {
    byte_buffer result;
    REQUIRE(wire_writer{result, version}.apply(x));
    return result;
}

template <class T>
T read(const byte_buffer& bytes, std::uint16_t version = growing_version) {
    T result;
    wire_reader source{bytes, version};
    REQUIRE(source.apply(result));
    CHECK(source.remaining() == 0);
    return result;
}

constexpr std::size_t bytes_max = limits{}.message_bytes_max;
constexpr std::size_t length_at = frame_prefix_bytes;

/// The length of a message follows its content, as a writer of another release would set it.
void set_length(byte_buffer& frame) {
    const auto bytes = frame.size() - length_at - 4;
    for (std::size_t index = 0; index < 4; ++index)
        frame[length_at + index] = static_cast<caf::byte>(bytes >> 8 * (3 - index));
}

byte_buffer random_frame(std::size_t index, std::mt19937_64& source) {
    auto frame = encode(random_message(index, source), bytes_max);
    REQUIRE(frame);
    return std::move(*frame);
}

} // namespace

TEST_CASE("growing: an older reader skips new fields, in a message and in each struct of a list") {
    const auto old = read<old_message>(
        written(new_message{"x", {{1, {"a"}}, {2, {}}, {3, {"b", "c"}}}, 9, {}, {8, {"d"}}}));
    CHECK(old.name == "x");
    REQUIRE(old.parts.size() == 3);
    CHECK(old.parts[2].number == 3);
    CHECK(old.last == 9);
}

TEST_CASE("growing: a newer reader keeps the defaults of what an older writer did not know") {
    const auto now = read<new_message>(written(old_message{"x", {{1}, {2}}, 9}));
    REQUIRE(now.parts.size() == 2);
    CHECK(now.parts[1].number == 2);
    CHECK(now.parts[1].words == std::vector<std::string>{"default"});
    CHECK(now.last == 9);
    CHECK(now.more == std::uint8_t{5});
    CHECK(now.single.number == 42);
}

TEST_CASE("growing: before version 7 nothing has a length, and later fields are left out") {
    const old_message old{"x", {{1}, {2}}, 9};
    const new_message now{"x", {{1, {"a"}}, {2, {}}}, 9, {}, {8, {"d"}}};
    CHECK(written(now, 6) == written(old, 6));
    CHECK(written(old, 6).size() == 2 + 1 + 2 * 4 + 8);
    CHECK(written(old).size() == 4 + 2 + 1 + 2 * (4 + 4) + 8);
    CHECK(read<new_message>(written(old, 6), 6).single.number == 42);
}

TEST_CASE("growing: a field of all versions must be there") {
    auto bytes = written(old_message{"x", {}, 9});
    bytes.pop_back();
    bytes[3] = static_cast<caf::byte>(bytes.size() - 4);
    new_message result;
    wire_reader source{bytes, growing_version};
    CHECK_FALSE(source.apply(result));
}

TEST_CASE("growing: a length cannot reach behind the struct around it") {
    auto bytes = written(old_message{"", {{1}}, 9});
    const auto part_length_at = 4 + 1 + 1 + 3;
    REQUIRE(bytes[part_length_at] == caf::byte{4});
    for (unsigned length = 0; length < 256; ++length) {
        bytes[part_length_at] = static_cast<caf::byte>(length);
        old_message result;
        wire_reader source{bytes, growing_version};
        // 4 is right; up to 12 the part takes bytes of the last field, which is then too short.
        CHECK(source.apply(result) == (length == 4));
    }
}

TEST_CASE("growing: any message with more behind its last field is the same message") {
    std::mt19937_64 source{random_seed(11)};
    for (std::size_t index = 0; index < message_types; ++index) {
        const auto frame = random_frame(index, source);
        auto longer = frame;
        for (int bytes = 1; bytes < 40; ++bytes) {
            longer.push_back(static_cast<caf::byte>(source()));
            set_length(longer);
            const auto back = decode(longer, bytes_max);
            REQUIRE_MESSAGE(back, describe(back.error()));
            CHECK(*encode(*back, bytes_max) == frame);
        }
    }
}

TEST_CASE("growing: any message that lacks bytes of its fields is refused, unless it ends where a "
          "former release ended it") {
    std::mt19937_64 source{random_seed(12)};
    for (std::size_t index = 0; index < message_types; ++index) {
        auto frame = random_frame(index, source);
        while (frame.size() > length_at + 4) {
            frame.pop_back();
            set_length(frame);
            const auto back = decode(frame, bytes_max);
            if (back) // what is missing has its default
                CHECK(encode(*back, bytes_max)->size() > frame.size());
            else
                CHECK(code_of(back.error()) == errc::malformed_message);
        }
    }
}

TEST_CASE("growing: a list that claims more than its struct holds costs no memory") {
    auto frame = *encode(instance_info{}, bytes_max);
    frame.pop_back(); // the length of the list
    for (auto x : {0xff, 0xff, 0xff, 0xff, 0x0f, 0x00})
        frame.push_back(static_cast<caf::byte>(x));
    set_length(frame);
    std::size_t peak = 0;
    auto code = errc::none;
    {
        allocation_scope counting;
        code = code_of(decode(frame, bytes_max).error());
        peak = counting.peak_bytes();
    }
    CHECK(code == errc::malformed_message);
    CHECK(peak < 4096);
}

TEST_CASE("growing: every message comes back from the version before structs could grow") {
    std::mt19937_64 source{random_seed(13)};
    for (std::size_t index = 0; index < message_types; ++index) {
        auto message = random_message(index, source);
        header_of(message).version = 6;
        const auto frame = encode(message, bytes_max);
        REQUIRE(frame);
        const auto back = decode(*frame, bytes_max);
        REQUIRE_MESSAGE(back, describe(back.error()));
        CHECK(*encode(*back, bytes_max) == *frame);
        if (const auto* introduction = std::get_if<register_rank_info>(&*back)) {
            CHECK(introduction->info.protocol == unsaid_protocol);
            CHECK(introduction->info.capabilities == 0);
        }
    }
}

TEST_CASE("growing: of a message that this release does not know the header can be read") {
    std::mt19937_64 source{random_seed(14)};
    auto frame = random_frame(wire_message{gone{}}.index(), source);
    const auto header = header_of(*decode(frame, bytes_max));
    frame[6] = caf::byte{200};
    const auto prefix = peek(frame);
    REQUIRE(prefix);
    CHECK(is_unknown(*prefix));
    CHECK(code_of(decode(frame, bytes_max).error()) == errc::protocol_mismatch);
    const auto read_header = decode_header(frame);
    REQUIRE(read_header);
    CHECK(*read_header == header);
    for (auto cut = frame; cut.size() > length_at + 8;) {
        cut.pop_back();
        CHECK(code_of(decode_header(cut).error()) == errc::malformed_message);
    }
}

TEST_CASE("growing: a reason of a newer release is a mismatch that tells its number") {
    auto frame = *encode(termination{{}, {errc::gone, "bye"}}, bytes_max);
    const auto code_at = frame.size() - 5; // of "bye", behind its length
    REQUIRE(frame[code_at] == static_cast<caf::byte>(errc::gone));
    frame[code_at] = caf::byte{200};
    const auto back = decode(frame, bytes_max);
    REQUIRE(back);
    const auto& reason = std::get<termination>(*back).reason;
    CHECK(reason.code == errc::protocol_mismatch);
    CHECK(reason.text == "reason 200 of a newer release: bye");
}
