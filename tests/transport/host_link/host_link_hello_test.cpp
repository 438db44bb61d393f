// SPDX-License-Identifier: Apache-2.0
// Packets of the same-host hello: what is encoded can be decoded, and damaged packets are refused
// by name.
#include "tests/messages/wire/random_message.hpp"
#include "tests/support/allocation_counter.hpp"
#include "tests/support/caf_setup.hpp"
#include "transport/host_link/host_link_hello.hpp"
#include "transport/same_host/unix_socket.hpp"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::vector<hello_region> some_regions(std::size_t count) {
    std::vector<hello_region> result;
    for (std::size_t index = 0; index < count; ++index)
        result.push_back({static_cast<std::uint32_t>(index), 4096 * (index + 1)});
    return result;
}

std::vector<unique_fd> some_fds(std::size_t count) {
    std::vector<unique_fd> result;
    for (std::size_t index = 0; index < count; ++index)
        result.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return result;
}

} // namespace

TEST_CASE("host_link_hello: what is encoded is decoded, and fits into a packet") {
    for (std::size_t count : {0, 1, 249, 250, 251, 1024}) {
        CAPTURE(count);
        const auto parts =
            split_hello(incarnation{1}, incarnation{2}, link_token{3}, some_regions(count));
        CHECK(parts.size() == std::max<std::size_t>(1, (count + 249) / 250));
        for (const auto& part : parts) {
            const auto bytes = encode(host_link_packet{part});
            CHECK(bytes.size() <= socket_packet_bytes_max);
            auto again = decode_host_link_packet(bytes, part.regions.size());
            REQUIRE(again);
            CHECK(std::get<hello_packet>(*again) == part);
        }
    }
    const auto refusal = refusal_because(make_error(errc::foreign_peer, std::string(5000, 'x')));
    const auto bytes = encode(host_link_packet{refusal});
    CHECK(bytes.size() <= socket_packet_bytes_max);
    auto again = decode_host_link_packet(bytes, 0);
    REQUIRE(again);
    CHECK(std::get<hello_refusal>(*again) == refusal);
}

TEST_CASE("host_link_hello: the bytes of each version are read for ever; what a newer release puts "
          "behind them is skipped since structs can grow") {
    for (auto version = oldest_protocol_version; version <= protocol_version; ++version) {
        CAPTURE(version);
        byte_buffer frozen;
        for (auto x : {0x6b, 0x76, 0x68, 0x6c, 0, int{version}, 0}) // "kvhl", version, kind
            frozen.push_back(static_cast<caf::byte>(x));
        for (auto number : {1, 2, 3}) { // sender, receiver, token
            frozen.insert(frozen.end(), 7, caf::byte{0});
            frozen.push_back(static_cast<caf::byte>(number));
        }
        for (auto x : {0, 0, 0, 1, 0, 1}) // part 0 of 1, with one region
            frozen.push_back(static_cast<caf::byte>(x));
        for (auto x : {0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0x10, 0})
            frozen.push_back(static_cast<caf::byte>(x));
        const auto part =
            split_hello(incarnation{1}, incarnation{2}, link_token{3}, {{7, 4096}}, version)
                .front();
        CHECK(encode(host_link_packet{part}) == frozen);
        const auto read = decode_host_link_packet(frozen, 1);
        REQUIRE(read);
        CHECK(std::get<hello_packet>(*read) == part);
        frozen.push_back(caf::byte{42});
        CHECK(bool{decode_host_link_packet(frozen, 1)} == (version >= 7));
        frozen.pop_back();
        const auto newest = static_cast<std::uint16_t>(version - 1); // a release that lacks it
        const auto refused = decode_host_link_packet(frozen, 1, newest);
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::protocol_mismatch);
        CHECK(text_of(refused.error()).find("version " + std::to_string(version))
              != std::string::npos);
    }
}

TEST_CASE("host_link_hello: bent packets give a packet or a named error, in bounded memory") {
    const auto seed = random_seed(4711);
    CAPTURE(seed);
    std::mt19937_64 source{seed};
    std::vector<byte_buffer> corpus;
    for (std::size_t count : {0, 1, 3, 250})
        corpus.push_back(encode(host_link_packet{
            split_hello(incarnation{1}, incarnation{2}, link_token{3}, some_regions(count))
                .front()}));
    corpus.push_back(encode(host_link_packet{hello_refusal{{errc::foreign_peer, "who are you"}}}));
    std::size_t accepted = 0;
    std::size_t refused = 0;
    for (int round = 0; round < 20000; ++round) {
        CAPTURE(round);
        auto bytes = corpus[source() % corpus.size()];
        for (auto steps = 1 + source() % 3; steps > 0 && !bytes.empty(); --steps) {
            const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(source() % bytes.size());
            switch (source() % 4) {
            case 0:
                *at ^= static_cast<caf::byte>(1u << source() % 8);
                break;
            case 1:
                bytes.erase(at, bytes.end());
                break;
            case 2:
                bytes.insert(at, 1 + source() % 12, static_cast<caf::byte>(source()));
                break;
            default:
                *at = caf::byte{0xff};
            }
        }
        constexpr std::array<std::size_t, 4> counts{0, 1, 3, 250};
        const auto descriptors = counts[source() % counts.size()];
        std::size_t peak = 0;
        auto result = [&] {
            allocation_scope counting;
            auto decoded = decode_host_link_packet(bytes, descriptors);
            peak = counting.peak_bytes();
            return decoded;
        }();
        REQUIRE(peak <= bytes.size() * 4 + 2048);
        if (result) {
            ++accepted;
            if (auto* hello = std::get_if<hello_packet>(&*result))
                REQUIRE(hello->regions.size() == descriptors);
        } else {
            ++refused;
            const auto code = code_of(result.error());
            REQUIRE((code == errc::malformed_message || code == errc::protocol_mismatch));
        }
    }
    CHECK(accepted > 100);
    CHECK(refused > 1000);
}

TEST_CASE("hello_assembly: parts in order make a whole, with every descriptor beside its region") {
    const auto parts =
        split_hello(incarnation{1}, incarnation{2}, link_token{3}, some_regions(600));
    hello_assembly whole{600};
    CHECK_FALSE(whole.complete());
    for (const auto& part : parts) {
        CHECK_FALSE(whole.complete());
        CHECK_FALSE(whole.add(part, some_fds(part.regions.size())));
    }
    CHECK(whole.complete());
    CHECK(whole.head().sender == incarnation{1});
    REQUIRE(whole.regions().size() == 600);
    CHECK(whole.regions()[599].what == hello_region{599, 4096 * 600});
    CHECK(whole.regions()[599].memfd);
}

TEST_CASE("hello_assembly: parts that do not belong together are refused") {
    const auto parts =
        split_hello(incarnation{1}, incarnation{2}, link_token{3}, some_regions(300));
    {
        hello_assembly whole{600};
        CHECK(code_of(whole.add(parts[1], some_fds(50))) == errc::malformed_message);
    }
    auto refused_second = [&](auto change) {
        hello_assembly whole{600};
        CHECK_FALSE(whole.add(parts[0], some_fds(250)));
        auto second = parts[1];
        change(second);
        return code_of(whole.add(second, some_fds(second.regions.size())));
    };
    CHECK(refused_second([](hello_packet&) {}) == errc::none);
    CHECK(refused_second([](hello_packet& x) { x.part = 0; }) == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.parts = 3; }) == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.sender.value = 9; }) == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.receiver.value = 9; }) == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.token.value = 9; }) == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.version = oldest_protocol_version; })
          == errc::malformed_message);
    CHECK(refused_second([](hello_packet& x) { x.regions[0].region = 0; })
          == errc::malformed_message);
    {
        hello_assembly whole{299};
        CHECK_FALSE(whole.add(parts[0], some_fds(250)));
        CHECK(code_of(whole.add(parts[1], some_fds(50))) == errc::limit_exceeded);
    }
}
