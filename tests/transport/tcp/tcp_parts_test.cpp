// SPDX-License-Identifier: Apache-2.0
// The parts of the tcp wire by themselves: hellos, addresses, what is written and read again.
#include "transport/tcp/small_parts.hpp"
#include "transport/tcp/tcp_hello.hpp"
#include "transport/tcp/tcp_outbox.hpp"
#include "transport/tcp/tcp_reader.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <random>

using namespace kvferry;

namespace {

/// A pipe that takes and gives at most so many bytes at a time.
class narrow_stream final : public byte_stream {
public:
    std::mt19937 random{7};
    std::size_t most = 1;
    std::deque<std::byte> inside;

    int fd() const override { return -1; }
    bytes_moved write(std::span<const iovec> from) override {
        bytes_moved result;
        for (auto left = 1 + random() % most; const auto& part : from) {
            const auto* at = static_cast<const std::byte*>(part.iov_base);
            const auto count = std::min<std::size_t>(left, part.iov_len);
            inside.insert(inside.end(), at, at + count);
            result.bytes += count;
            left -= count;
        }
        return result;
    }
    bytes_moved read(std::span<const iovec> to) override {
        if (inside.empty())
            return {.blocked = true};
        bytes_moved result;
        for (auto left = 1 + random() % most; const auto& part : to) {
            const auto count = std::min({left, part.iov_len, inside.size()});
            std::copy_n(inside.begin(), count, static_cast<std::byte*>(part.iov_base));
            inside.erase(inside.begin(), inside.begin() + static_cast<std::ptrdiff_t>(count));
            result.bytes += count;
            left -= count;
        }
        return result;
    }
};

struct message {
    fabric_message what;
    byte_buffer head;
    byte_buffer payload;

    friend bool operator==(const message&, const message&) = default;
};

/// Takes writes into `memory` and everything else whole.
struct listener final : wire_user {
    std::vector<message> arrived_whole;
    std::vector<std::byte> memory = std::vector<std::byte>(1 << 16);
    std::size_t lands_at = 0;
    /// Length of a place at most.
    std::uint64_t longest = 7;
    std::vector<std::span<std::byte>> places_given;
    std::size_t landings = 0;
    std::size_t refusals = 0;
    /// From the so many-th question on, nothing may be written any more.
    std::size_t refuse_after = ~std::size_t{0};
    std::size_t asked = 0;

    void arrived(fabric_message what, byte_view head, byte_view payload) override {
        arrived_whole.push_back(
            {what, {head.begin(), head.end()}, {payload.begin(), payload.end()}});
    }
    bool on_progress() override { return false; }
    void after(std::chrono::nanoseconds, std::function<void()>) override {}
    landing land(fabric_message what, byte_view, std::uint64_t bytes) override {
        if (what != fabric_message::bundle)
            return {};
        landing result{.how = landing::kind::in_place};
        for (std::uint64_t left = bytes; left > 0;) { // in places of unequal lengths, with gaps
            const auto count = std::min<std::uint64_t>(left, 1 + left % longest);
            result.places.emplace_back(memory.data() + lands_at, count);
            places_given.push_back(result.places.back());
            lands_at += count + 3;
            left -= count;
        }
        return result;
    }
    bool may_land(fabric_message, byte_view, landing& x) override {
        if (++asked < refuse_after)
            return true;
        x.how = landing::kind::refused;
        x.places.clear();
        return false;
    }
    void landed(landing&& x) override {
        (x.how == landing::kind::in_place ? landings : refusals) += 1;
    }
};

byte_buffer numbered(std::size_t count, int from = 1) {
    byte_buffer result(count);
    for (std::size_t index = 0; index < count; ++index)
        result[index] = static_cast<caf::byte>(from + index);
    return result;
}

} // namespace

TEST_CASE("tcp address: is read as it was written; what is damaged, empty or no address is "
          "refused") {
    const tcp_address whole{
        .secret = {1, 2, 3}, .port = 4711, .hosts = {"192.0.2.1", "2001:db8::1"}};
    const auto packed = pack_address(whole);
    auto read = parse_address(packed);
    REQUIRE(read);
    CHECK(*read == whole);
    for (std::size_t at = 0; at < packed.size(); ++at) {
        auto damaged = packed;
        damaged[at] ^= caf::byte{4};
        CHECK_FALSE(parse_address(damaged));
    }
    CHECK_FALSE(parse_address({}));
    for (const auto& hosts : std::vector<std::vector<std::string>>{
             {},
             {"0.0.0.0"},
             {"::"},
             {"localhost"},
             {"192.0.2.1", "here"},
             std::vector<std::string>(tcp_hosts_max + 1, "192.0.2.1")})
        CHECK_FALSE(parse_address(pack_address({.secret = {}, .port = 1, .hosts = hosts})));
    CHECK_FALSE(parse_address(pack_address({.secret = {}, .port = 0, .hosts = {"192.0.2.1"}})));
}

TEST_CASE("tcp hello: only a whole one with the right target and secret is let in") {
    const tcp_secret secret{9, 8, 7};
    const auto packed = pack_hello({{5}, {6}, secret, tcp_lane::bulk});
    REQUIRE(packed.size() == tcp_hello_bytes);
    auto hello = parse_hello(packed);
    REQUIRE(hello);
    CHECK(hello->lane == tcp_lane::bulk);
    CHECK(hello->sender == incarnation{6});
    CHECK(hello->urgency == priority::normal);
    CHECK(
        parse_hello(pack_hello({{5}, {6}, secret, tcp_lane::bulk, false, priority::high}))->urgency
        == priority::high);
    auto of_the_future = packed;
    of_the_future[44] = caf::byte{9}; // a class that nobody knows yet
    CHECK(parse_hello(of_the_future)->urgency == priority::normal);
    CHECK_FALSE(check_hello(*hello, {5}, secret));
    CHECK(code_of(check_hello(*hello, {4}, secret)) == errc::stale_incarnation);
    CHECK(code_of(check_hello(*hello, {5}, {9, 8, 6})) == errc::foreign_peer);
    CHECK_FALSE(parse_hello({packed.data(), packed.size() - 1}));
    constexpr std::size_t room_at = 43; // for newer releases
    for (std::size_t at = 0; at < packed.size(); ++at) {
        auto other = packed;
        other[at] ^= caf::byte{0x40};
        auto read = parse_hello(other);
        const auto let_in =
            read && !check_hello(*read, {5}, secret) && read->sender == incarnation{6};
        CHECK(let_in == (at >= room_at));
    }
}

TEST_CASE("tcp hello: the bytes of version 1 are read for ever") {
    byte_buffer frozen;
    for (auto x : {0x6b, 0x66, 0x72, 0x79, 0x5f, 0x74, 0x63, 0x70}) // "kfry_tcp"
        frozen.push_back(static_cast<caf::byte>(x));
    for (auto number : {5, 6}) { // whom it is for, and from
        frozen.push_back(static_cast<caf::byte>(number));
        frozen.insert(frozen.end(), 7, caf::byte{0});
    }
    for (auto x : {9, 8, 7}) // the secret
        frozen.push_back(static_cast<caf::byte>(x));
    frozen.insert(frozen.end(), 13, caf::byte{0});
    for (auto x : {1, 0, 1, 0, 0, 0, 0, 0}) // the version, the lane, and room
        frozen.push_back(static_cast<caf::byte>(x));
    CHECK(frozen == pack_hello({{5}, {6}, {9, 8, 7}, tcp_lane::bulk}));
    for (int version : {0, 2, 9}) {
        frozen[40] = static_cast<caf::byte>(version);
        const auto refused = parse_hello(frozen);
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::protocol_mismatch);
        CHECK(text_of(refused.error()).find("version " + std::to_string(version))
              != std::string::npos);
    }
}

TEST_CASE(
    "tcp records: what is written arrives, whatever the pieces in which the stream moves it") {
    for (std::size_t most : {1u, 2u, 7u, 100u, 5000u, 100000u}) {
        CAPTURE(most);
        narrow_stream stream;
        stream.most = most;
        listener user;
        tcp_outbox out;
        std::vector<std::uint64_t> tags;
        std::vector<message> sent;
        const auto bytes = numbered(3000, 5);
        std::size_t in_place = 0;
        for (int index = 0; index < 40; ++index) {
            const auto head = numbered(static_cast<std::size_t>(index * 11 % 60));
            if (index % 3 == 0) {
                std::vector<byte_view> parts;
                for (std::size_t at = 0; at < static_cast<std::size_t>(index); ++at)
                    parts.emplace_back(bytes.data() + 17 * at, 1 + at % 9);
                out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), head, parts,
                             100 + static_cast<std::uint64_t>(index));
                ++in_place;
            } else {
                sent.push_back({fabric_message::frame, head,
                                numbered(static_cast<std::size_t>(index * 37 % 2000))});
                out.add(static_cast<std::uint8_t>(fabric_message::frame), head,
                        sent.back().payload);
            }
        }
        tcp_reader reader{&user, 1 << 20, [](tcp_record, byte_view) { return caf::error{}; }};
        while (!out.empty() || !stream.inside.empty()) {
            REQUIRE_FALSE(out.write(stream, 1 << 20, tags).problem);
            const auto read = reader.read(stream, 1 << 20);
            REQUIRE_MESSAGE(!read.problem, describe(read.problem));
        }
        CHECK(user.arrived_whole == sent);
        CHECK(user.landings == in_place);
        CHECK(tags.size() == in_place);
        CHECK(std::is_sorted(tags.begin(), tags.end()));
        CHECK(out.bytes() == 0);
        // The bundle of 39 parts lies where the listener wanted it.
        std::vector<caf::byte> expected;
        for (std::size_t at = 0; at < 39; ++at)
            expected.insert(expected.end(), bytes.begin() + 17 * at,
                            bytes.begin() + 17 * at + 1 + at % 9);
        listener again;
        again.lands_at = 0;
        auto where = again.land(fabric_message::bundle, {}, expected.size());
        std::size_t begin = user.lands_at - again.lands_at, from = 0;
        for (const auto& place : where.places) {
            const auto offset =
                begin + static_cast<std::size_t>(place.data() - again.memory.data());
            CHECK(std::memcmp(user.memory.data() + offset, expected.data() + from, place.size())
                  == 0);
            from += place.size();
        }
    }
}

TEST_CASE("tcp records: once a landing is refused nothing more of it is written, and the stream "
          "goes on") {
    for (std::uint64_t longest : {7u, 5000u}) { // read through a buffer, and into place
        CAPTURE(longest);
        narrow_stream stream;
        stream.most = 10;
        listener user;
        user.longest = longest;
        user.refuse_after = 6;
        tcp_outbox out;
        std::vector<std::uint64_t> tags;
        const byte_buffer ones(9000, caf::byte{1});
        const byte_view part = ones;
        out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), {}, std::span{&part, 1}, 1);
        out.add(static_cast<std::uint8_t>(fabric_message::frame), {}, numbered(9));
        tcp_reader reader{&user, 1 << 20, {}};
        while (!out.empty() || !stream.inside.empty()) {
            REQUIRE_FALSE(out.write(stream, 1 << 20, tags).problem);
            REQUIRE_FALSE(reader.read(stream, 1 << 20).problem);
        }
        CHECK(user.refusals == 1);
        CHECK(user.landings == 0);
        const auto written = std::count(user.memory.begin(), user.memory.end(), std::byte{1});
        CHECK(written > 0);
        CHECK(written <= 60);
        REQUIRE(user.arrived_whole.size() == 1);
        CHECK(user.arrived_whole[0].payload == numbered(9));
    }
}

namespace {

constexpr std::uint64_t turn_bytes = std::uint64_t{1} << 18;

/// By the calls that another thread makes where they are long, if it may. Returns how many it made.
int write_some(tcp_outbox& out, byte_stream& to, std::vector<std::uint64_t>& tags, bool apart) {
    const auto parts = apart ? out.begin_apart() : std::span<const iovec>{};
    const auto progress = parts.empty() ? out.write(to, turn_bytes, tags)
                                        : out.written_apart(write_parts(to, parts), tags);
    REQUIRE_FALSE(progress.problem);
    return parts.empty() ? 0 : 1;
}

int read_some(tcp_reader& in, byte_stream& from, bool apart) {
    const auto progress = in.read(from, turn_bytes, apart);
    REQUIRE_FALSE(progress.problem);
    if (!progress.is_long_next)
        return 0;
    const auto parts = in.begin_apart();
    REQUIRE_FALSE(in.end_apart(read_parts(from, parts)).problem);
    return 1;
}

} // namespace

TEST_CASE("tcp records: pieces of all sizes arrive where they belong, small ones and large ones in "
          "one message, whether the loop moves them or another thread") {
    std::mt19937 random{11};
    for (int test = 0; test < 8; ++test) {
        const bool apart = test % 2 != 0;
        const std::uint64_t longest = std::array{40, 900, 1500, 6000}[test / 2];
        CAPTURE(longest);
        CAPTURE(apart);
        narrow_stream stream;
        stream.most = 20000;
        listener user;
        user.longest = longest;
        user.memory.resize(std::size_t{1} << 21);
        tcp_outbox out;
        byte_buffer bytes(std::size_t{1} << 19);
        for (auto& x : bytes)
            x = static_cast<caf::byte>(random());
        std::vector<std::uint64_t> tags;
        byte_buffer sent;
        for (std::uint64_t tag = 1; tag < 6; ++tag) {
            std::vector<byte_view> parts;
            for (int part = 0; part < 200; ++part) {
                const auto count = part % 5 == 0 ? 1 + random() % 4000 : 1 + random() % 300;
                parts.emplace_back(bytes.data() + random() % (bytes.size() - count), count);
                sent.insert(sent.end(), parts.back().begin(), parts.back().end());
            }
            out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), {}, parts, tag);
        }
        tcp_reader reader{&user, 1 << 20, {}};
        int apart_calls = 0;
        while (!out.empty() || !stream.inside.empty()) {
            apart_calls += write_some(out, stream, tags, apart);
            apart_calls += read_some(reader, stream, apart);
        }
        CHECK((apart_calls > 0) == apart);
        CHECK(user.landings == 5);
        CHECK(tags == std::vector<std::uint64_t>{1, 2, 3, 4, 5});
        byte_buffer landed;
        for (const auto& place : user.places_given)
            for (auto x : place)
                landed.push_back(static_cast<caf::byte>(x));
        CHECK(landed == sent);
    }
}

TEST_CASE("tcp records: what has come before the end of a stream, or before an error, arrives") {
    for (bool breaks : {false, true}) {
        CAPTURE(breaks);
        /// Gives all that is asked for, as long as it has it.
        struct ending_stream final : byte_stream {
            byte_buffer bytes;
            bool breaks = false;

            int fd() const override { return -1; }
            bytes_moved write(std::span<const iovec> from) override {
                bytes_moved result;
                for (const auto& part : from) {
                    const auto* at = static_cast<const caf::byte*>(part.iov_base);
                    bytes.insert(bytes.end(), at, at + part.iov_len);
                    result.bytes += part.iov_len;
                }
                return result;
            }
            bytes_moved read(std::span<const iovec> to) override {
                std::size_t moved = 0;
                for (const auto& part : to) {
                    const auto count = std::min(part.iov_len, bytes.size() - moved);
                    std::memcpy(part.iov_base, bytes.data() + moved, count);
                    moved += count;
                }
                bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(moved));
                return moved > 0 ? bytes_moved{.bytes = moved}
                       : breaks  ? bytes_moved{.error = ECONNRESET}
                                 : bytes_moved{.ended = true};
            }
        } stream;
        stream.breaks = breaks;
        listener user;
        user.longest = 1000;
        user.memory.resize(std::size_t{1} << 20);
        tcp_outbox out;
        std::vector<std::uint64_t> tags;
        const byte_buffer bytes(200'000, caf::byte{3}); // more than one call takes
        const byte_view part = bytes;
        out.add_from(static_cast<std::uint8_t>(fabric_message::bundle), {}, std::span{&part, 1}, 1);
        REQUIRE_FALSE(out.write(stream, 1 << 20, tags).problem);
        stream.bytes.resize(stream.bytes.size() - 50'000); // all but that has left
        tcp_reader reader{&user, 1 << 20, {}};
        auto progress = reader.read(stream, 1 << 20);
        while (!progress.ended && !progress.problem)
            progress = reader.read(stream, 1 << 20);
        CHECK(progress.ended == !breaks);
        CHECK(bool(progress.problem) == breaks);
        CHECK(std::count(user.memory.begin(), user.memory.end(), std::byte{3}) == 150'000);
    }
}

TEST_CASE("tcp outbox: what it keeps is written again after a rewind, and not after a release") {
    for (bool rewinds : {true, false}) {
        narrow_stream stream;
        stream.most = 1000;
        tcp_outbox out;
        std::vector<std::uint64_t> tags;
        out.retain();
        out.add(0, {}, numbered(50));
        out.add(0, {}, numbered(60));
        while (!out.empty())
            (void)out.write(stream, 1000, tags);
        CHECK(out.messages() == 0);
        stream.inside.clear();
        if (rewinds) {
            out.rewind();
            CHECK(out.messages() == 2);
            CHECK(out.bytes() == 110 + 2 * sizeof(record_head));
        } else {
            out.release();
        }
        out.add(0, {}, numbered(7));
        while (!out.empty())
            (void)out.write(stream, 1000, tags);
        CHECK(stream.inside.size()
              == (rewinds ? 117 + 3 * sizeof(record_head) : 7 + sizeof(record_head)));
    }
}

TEST_CASE("tcp outbox: what is dropped gives its memory back") {
    tcp_outbox out;
    const auto bytes = numbered(10);
    const byte_view part = bytes;
    out.add_from(1, {}, std::span{&part, 1}, 5);
    out.add(0, {}, numbered(3));
    out.add_from(1, {}, std::span{&part, 1}, 6);
    std::vector<std::uint64_t> tags;
    out.drop(tags);
    CHECK(tags == std::vector<std::uint64_t>{5, 6});
    CHECK(out.empty());
    CHECK(out.bytes() == 0);
}

TEST_CASE("tcp outbox: a message says the sums of its bytes as they are when it begins to be "
          "written, and says the same once more after a rewind") {
    narrow_stream stream;
    stream.most = 100;
    tcp_outbox out;
    std::vector<std::uint64_t> tags;
    out.retain();
    auto bytes = numbered(5000);
    const byte_view all = bytes;
    const std::vector<byte_view> parts{all.subspan(0, 1000), all.subspan(1000)};
    post_bundle bundle{.over = {}, .put = 1, .attempt = {}};
    bundle.stretches = {{0, 70000, 1000, 0, 1}, {0, 90000, 4000, 0, 1}};
    bundle.sums = true;
    const auto key = [](std::uint32_t region) { return access_key_head{region, 7}; };
    out.add_from(static_cast<std::uint8_t>(fabric_message::bundle),
                 pack_bundle(incarnation{1}, bundle, key), parts, 1);
    bytes[0] = bytes[1500] = bytes[4999] = caf::byte{77}; // before its turn comes
    const auto written = [&] {
        while (!out.empty())
            (void)out.write(stream, 100, tags);
        std::vector<std::byte> result{stream.inside.begin(), stream.inside.end()};
        stream.inside.clear();
        return result;
    };
    const auto once = written();
    record_head record;
    std::memcpy(static_cast<void*>(&record), once.data(), sizeof record);
    REQUIRE(once.size() == sizeof record + record.head_bytes + 5000);
    const auto said = parse_bundle(
        {reinterpret_cast<const caf::byte*>(once.data()) + sizeof record, record.head_bytes}, 5000);
    REQUIRE(said);
    message_adder adder;
    adder.add(70000, bytes.data(), 1000);
    adder.add(90000, bytes.data() + 1000, 4000);
    CHECK(said->sums == adder.value());
    out.rewind();
    CHECK(written() == once);
}
