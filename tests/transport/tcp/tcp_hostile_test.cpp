// SPDX-License-Identifier: Apache-2.0
// What strangers and broken peers can do at a fabric's port: be refused, by name, at little cost.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/nothing_left.hpp"
#include "tests/transport/tcp/raw_peer.hpp"
#include "tests/transport/tcp/spawn_tcp.hpp"
#include "transport/fabric/sealed_bytes.hpp"
#include "transport/tcp/tcp_door.hpp"

#include <algorithm>
#include <fstream>
#include <thread>

namespace kvferry::testing {

struct hostile_kit : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        fabric_dependencies with{.self = self, .default_sink = sink, .bounds = {}};
        // Strangers are gone by then, and peers are let in sooner on a busy machine, too.
        with.bounds.dial_deadline = std::chrono::seconds{2};
        auto made = spawn_tcp(system(), loop(number), with);
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

/// A target, and what a stranger knows of it.
struct besieged : fabric_pair<hostile_kit> {
    tcp_address address = *parse_address(address_of(target));

    raw_peer stranger() { return raw_peer{address.port}; }
    byte_buffer hello(tcp_lane lane = tcp_lane::bulk) const {
        return pack_hello({target_id, writer_id, address.secret, lane});
    }
    /// A peer that has said hello.
    raw_peer peer() {
        auto result = stranger();
        REQUIRE(result.send(hello()));
        REQUIRE(result.is_welcome());
        return result;
    }
    void check_serves(fabric_memory& memory) {
        auto over = open({share(memory)});
        check_alive(over, memory);
        REQUIRE_FALSE(probe.ask(writer, close_endpoint{over, false}));
    }
};

bool has(const std::string& text, const char* word) {
    return text.find(word) != std::string::npos;
}

} // namespace kvferry::testing

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("tcp wire: strangers that send garbage are sent away and told nothing; who has the wrong "
          "target or secret is told so") {
    besieged x;
    fabric_memory memory(4096);
    auto garbage = x.stranger();
    REQUIRE(garbage.send("GET / HTTP/1.1\r\nHost: kvferry.example\r\nAccept: everything\r\n\r\n"));
    CHECK(garbage.rest().empty());
    auto other = x.stranger();
    REQUIRE(other.send(pack_hello({{7}, x.writer_id, x.address.secret, tcp_lane::frames})));
    CHECK(has(other.rest(), "incarnation 7"));
    auto wrong = x.address.secret;
    wrong[15] ^= 128;
    auto spy = x.stranger();
    REQUIRE(spy.send(pack_hello({x.target_id, x.writer_id, wrong, tcp_lane::frames})));
    CHECK(has(spy.rest(), "secret"));
    auto newer = x.hello();
    newer[40] = caf::byte{9};
    auto release = x.stranger();
    REQUIRE(release.send(newer));
    CHECK(has(release.rest(), "version 9"));
    x.check_serves(memory);
}

TEST_CASE("tcp wire: strangers that say nothing, or little by little, are ended in time; more of "
          "them than there is room for end each other, and peers come in all the while") {
    besieged x;
    fabric_memory memory(4096);
    x.check_serves(memory);
    const auto before = open_resources();
    std::vector<raw_peer> crowd;
    for (std::size_t i = 0; i < 3 * limits{}.wire_strangers_per_address_max; ++i) {
        crowd.push_back(x.stranger());
        crowd.back().send({x.hello().data(), i % 40});
    }
    x.check_serves(memory);
    for (auto& each : crowd)
        CHECK(each.rest().empty()); // it is ended: by the next ones, or by the clock
    crowd.clear();
    CHECK(is_down_to(before, x));
}

TEST_CASE("tcp wire: records that no rank writes end their connection, whatever they announce") {
    besieged x;
    fabric_memory memory(4096);
    const auto huge = std::uint64_t{1} << 62;
    const byte_buffer head(sizeof(write_head));
    struct bad {
        std::uint8_t what;
        byte_buffer head;
        std::uint64_t announced;
    };
    const std::vector<bad> all{
        {static_cast<std::uint8_t>(fabric_message::frame), {}, huge},
        {static_cast<std::uint8_t>(fabric_message::write), head, huge},
        {static_cast<std::uint8_t>(fabric_message::bundle), head, huge},
        {static_cast<std::uint8_t>(fabric_message::credit_ask), {}, limits{}.message_bytes_max + 1},
        {static_cast<std::uint8_t>(fabric_message::frame), byte_buffer(60000), 1},
        {fabric_message_count, {}, 0},
        {static_cast<std::uint8_t>(tcp_record::flush), {}, 5000},
        {static_cast<std::uint8_t>(tcp_record::flushed), {}, 0},
        {static_cast<std::uint8_t>(tcp_record::welcome), {}, 0},
        {255, {}, 0},
    };
    for (const auto& each : all) {
        CAPTURE(int(each.what));
        auto peer = x.peer();
        peer.send_record(each.what, each.head, {}, each.announced);
        CHECK(peer.rest().empty());
    }
    auto lost = x.peer();
    lost.send("no mark at all, and so the reader has lost its place");
    CHECK(lost.rest().empty());
    x.check_serves(memory);
}

TEST_CASE("tcp wire: a peer that announces a long frame and sends little of it costs little") {
    besieged x;
    const byte_buffer some(1000);
    std::vector<raw_peer> slow;
    for (int i = 0; i < 40; ++i) {
        slow.push_back(x.peer());
        slow.back().send_record(static_cast<std::uint8_t>(fabric_message::frame), {}, some,
                                limits{}.message_bytes_max);
    }
    fabric_memory memory(4096);
    x.check_serves(memory);
    // Each holds what has come, and what the next read may bring: far from 40 times 16 MiB.
    std::ifstream status{"/proc/self/statm"};
    std::size_t pages = 0, resident = 0;
    status >> pages >> resident;
    CHECK(resident * 4096 < std::size_t{400} << 20);
}

TEST_CASE("tcp wire: bytes that are half read when their attempt is forbidden, their region taken "
          "back or their writer fenced land nowhere from then on (H54)") {
    constexpr std::size_t half = 32768;
    for (int how : {0, 1, 2, 3}) {
        CAPTURE(how);
        besieged x;
        fabric_memory memory(2 * half);
        region_id region;
        const auto shared = x.share(memory, &region, true);
        x.probe.tell(x.target, allow_writes{attempt{5}});
        const auto key = unseal("tcp access key", shared.access_key);
        REQUIRE(key);
        access_key_head secret;
        std::memcpy(static_cast<void*>(&secret), key->data(), sizeof secret);
        post_bundle bundle{.over = {}, .put = 1, .attempt = {5}};
        for (std::size_t at = 0; at < 2 * half; at += 4096)
            bundle.stretches.push_back({0, memory.address() + at, 4096, 0, 0});
        const auto head = pack_bundle(x.writer_id, bundle, [&](std::uint32_t) { return secret; });
        auto peer = x.peer();
        const byte_buffer ones(half, caf::byte{1});
        REQUIRE(peer.send_record(static_cast<std::uint8_t>(fabric_message::bundle), head, ones,
                                 2 * half));
        const auto* last = reinterpret_cast<volatile std::byte*>(memory.data() + half - 1);
        const auto until = clock::now() + fabric_patience;
        while (*last != std::byte{1} && clock::now() < until)
            std::this_thread::yield();
        REQUIRE(*last == std::byte{1}); // read straight into place, before the rest has come
        switch (how) {
        case 0:
            REQUIRE_FALSE(x.probe.ask(x.target, forbid_writes{attempt{5}}));
            break;
        case 1:
            REQUIRE_FALSE(x.probe.ask(x.target, unregister_region{region}));
            break;
        case 2:
            REQUIRE_FALSE(x.probe.ask(x.target, drain_fabric{x.writer_id}));
            break;
        default:
            REQUIRE_FALSE(x.probe.ask(x.target, forbid_all_writes{}));
        }
        std::memset(memory.data(), 7, memory.size()); // it has another owner now
        REQUIRE(peer.send(ones));
        // A flush is answered when everything before it has been read.
        const byte_buffer number(8);
        REQUIRE(peer.send_record(static_cast<std::uint8_t>(tcp_record::flush), {}, number, 8));
        record_head answer;
        REQUIRE(::recv(peer.fd(), &answer, sizeof answer, MSG_WAITALL) == sizeof answer);
        CHECK(answer.what == static_cast<std::uint8_t>(tcp_record::flushed));
        x.probe.settle(x.target);
        CHECK(std::count(memory.data(), memory.data() + memory.size(), std::byte{7})
              == static_cast<std::ptrdiff_t>(memory.size()));
    }
}

TEST_CASE("tcp wire: a port that answers like nobody of ours ends the dial by name and in time") {
    unique_fd listener{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::listen(listener.get(), 8) == 0);
    socklen_t length = sizeof at;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&at), &length);
    besieged x;
    auto address = x.address;
    address.port = ntohs(at.sin_port);
    const auto dial = [&] {
        auto opened = x.probe.ask<endpoint_opened>(
            x.writer, open_endpoint{x.target_id, pack_address(address), {}, x.probe.sink()});
        REQUIRE(opened);
        x.send(opened->endpoint, make_frame(x.writer_id, 3));
    };
    dial(); // it accepts, and says nothing
    auto silent = x.probe.next<endpoint_failed>();
    CHECK_MESSAGE(has(text_of(silent.reason), "welcome"), describe(silent.reason));
    unique_fd first{::accept(listener.get(), nullptr, nullptr)};
    dial();
    unique_fd second{::accept(listener.get(), nullptr, nullptr)};
    REQUIRE(::send(second.get(), "220 mail.example ESMTP, who are you", 35, MSG_NOSIGNAL) == 35);
    auto foreign = x.probe.next<endpoint_failed>();
    CHECK_MESSAGE(has(text_of(foreign.reason), "no rank"), describe(foreign.reason));
}
