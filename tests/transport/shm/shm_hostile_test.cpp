// SPDX-License-Identifier: Apache-2.0
// Peers that do not keep to the rules, played by hand on the other end of socket and ring: each
// loses its own connection, by name, and nobody else notices.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/shm/spawn_shm.hpp"
#include "transport/same_host/machine_id.hpp"
#include "transport/same_host/unix_socket.hpp"
#include "transport/shm/byte_ring.hpp"
#include "transport/shm/shm_address.hpp"

#include <atomic>
#include <fcntl.h>
#include <functional>
#include <poll.h>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct shm_kit : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made =
            spawn_shm(system(), loop(number), {.self = self, .default_sink = sink, .bounds = {}});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

/// Waits until the other side has sent something or closed.
bool readable(const unix_socket& socket) {
    pollfd what{socket.fd(), POLLIN, 0};
    return ::poll(&what, 1, static_cast<int>(fabric_patience.count() * 1000)) == 1;
}

/// What the other side says before it closes; empty: it closes without a word.
std::string last_words(unix_socket& socket) {
    std::string result;
    while (readable(socket)) {
        auto packet = socket.receive();
        if (packet.what == received_packet::kind::end)
            return result;
        if (packet.bytes.size() > 1)
            result.assign(reinterpret_cast<const char*>(packet.bytes.data()), packet.bytes.size());
    }
    FAIL("the connection was not closed");
    return result;
}

/// A caller at a fabric's address.
struct caller {
    unix_socket socket;
    shm_address to;

    explicit caller(const byte_buffer& address)
        : socket(dial(address)), to(*parse_shm_address(address)) {}

    static unix_socket dial(const byte_buffer& address) {
        auto socket = unix_socket::connect(parse_shm_address(address)->name);
        REQUIRE(socket);
        REQUIRE(*socket);
        return std::move(**socket);
    }

    void say(const byte_buffer& packet, const std::vector<int>& fds) {
        auto sent = socket.send(packet, fds);
        REQUIRE(sent);
        REQUIRE(*sent);
    }

    byte_buffer hello() const { return pack(shm_hello{to.secret, ring_bytes}); }

    ring_writer bring_ring() {
        auto memory = ring_memory::make();
        REQUIRE(memory);
        say(hello(), {memory->fd()});
        return ring_writer{std::move(*memory)};
    }

    void ring_bell() { (void)socket.send(byte_buffer(1), {}); }
};

/// Two fabrics, of which the second is attacked, with a link that must stay alive.
struct scene : fabric_pair<shm_kit> {
    fabric_memory memory{1u << 16};
    endpoint_id over = open({share(memory)});
    byte_buffer address = address_of(target);

    ~scene() {
        check_alive(over, memory);
        check_nothing_more();
    }
};

byte_buffer some_bytes(std::size_t count) {
    return byte_buffer(count, caf::byte{0x5c});
}

} // namespace

TEST_CASE("shm: a caller that brings no ring is refused by name") {
    scene all;
    auto loose = unique_fd{::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    auto ring = ring_memory::make();
    REQUIRE(ring);
    struct attempt_at {
        const char* reason;
        std::function<void(caller&)> what;
    };
    const std::vector<attempt_at> attempts{
        {"secret",
         [&](caller& x) {
             x.say(pack(shm_hello{x.to.secret + 1, ring_bytes}), {ring->fd()});
         }},
        {"another size",
         [&](caller& x) {
             x.say(pack(shm_hello{x.to.secret, 4096}), {ring->fd()});
         }},
        {"no hello", [&](caller& x) { x.say(x.hello(), {}); }},
        {"no hello",
         [&](caller& x) {
             x.say(x.hello(), {ring->fd(), ring->fd()});
         }},
        {"hello", [&](caller& x) { x.say(some_bytes(24), {ring->fd()}); }},
        {"sealed", [&](caller& x) { x.say(x.hello(), {loose.get()}); }},
        {"sealed", [&](caller& x) { x.say(x.hello(), {x.socket.fd()}); }},
    };
    for (const auto& each : attempts) {
        CAPTURE(each.reason);
        caller one{all.address};
        each.what(one);
        const auto words = last_words(one.socket);
        CHECK_MESSAGE(words.find(each.reason) != std::string::npos, words);
    }
    caller silent{all.address}; // says nothing and closes
}

TEST_CASE("shm: a writer that scribbles over its ring loses it by name") {
    scene all;
    struct attack {
        const char* reason;
        std::function<void(ring_writer&)> what;
    };
    const auto record = [](ring_writer& ring, ring_record_head numbers) {
        std::memcpy(ring.memory().at(0), &numbers, sizeof numbers);
        ring.memory().control().head.store(64);
    };
    const std::vector<attack> attacks{
        {"the ring holds",
         [](ring_writer& ring) { ring.memory().control().head.store(~std::uint64_t{7}); }},
        {"ends inside", [](ring_writer& ring) { ring.memory().control().head.store(3); }},
        {"have been written", [&](ring_writer& ring) { record(ring, {.bytes = 4096}); }},
        {"none of ours", [&](ring_writer& ring) { record(ring, {.bytes = ~0u}); }},
        {"none of ours", [&](ring_writer& ring) { record(ring, {.what = 99}); }},
        {"none of ours", [&](ring_writer& ring) { record(ring, {.head_bytes = 200}); }},
        {"its message",
         [](ring_writer& ring) {
             ring.write(fabric_message::frame, {}, some_bytes(8), true);
             ring.write(fabric_message::written, {}, some_bytes(8), false);
         }},
        {"that it wrote",
         [](ring_writer& ring) {
             ring.write(fabric_message::frame, {}, some_bytes(64), false);
             while (ring.taken() != ring.written())
                 REQUIRE_FALSE(ring.look());
             ring.memory().control().head.store(8);
         }},
    };
    for (const auto& each : attacks) {
        CAPTURE(each.reason);
        caller one{all.address};
        auto ring = one.bring_ring();
        each.what(ring);
        one.ring_bell();
        const auto words = last_words(one.socket);
        CHECK_MESSAGE(words.find(each.reason) != std::string::npos, words);
    }
}

TEST_CASE("shm: a message without an end is cut off at the longest that is allowed") {
    scene all;
    caller one{all.address};
    auto ring = one.bring_ring();
    const auto part = some_bytes(record_bytes_max);
    const auto is_cut_off = [&one] {
        pollfd what{one.socket.fd(), POLLIN, 0};
        return ::poll(&what, 1, 0) == 1;
    };
    while (!is_cut_off()) {
        REQUIRE_FALSE(ring.look());
        if (ring.room() >= record_size(0, part.size())
            && ring.write(fabric_message::frame, {}, part, true))
            one.ring_bell();
        REQUIRE(ring.written() < 2 * limits{}.message_bytes_max);
    }
    const auto words = last_words(one.socket);
    CHECK_MESSAGE(words.find("longer than") != std::string::npos, words);
}

TEST_CASE("shm: any bytes that change while they are read end the connection at most") {
    scene all;
    std::mt19937_64 random{11};
    for (int round = 0; round < 20; ++round) {
        CAPTURE(round);
        caller one{all.address};
        auto ring = one.bring_ring();
        auto& control = ring.memory().control();
        auto* bytes = reinterpret_cast<std::uint32_t*>(ring.memory().at(0));
        for (int step = 0; step < 20000; ++step) {
            const auto what = random();
            auto& word = bytes[what % (ring_bytes / 8)];
            std::atomic_ref{word}.store(static_cast<std::uint32_t>(what >> 32)
                                        & (what % 3 == 0 ? ~0u : 0x000003ffu));
            if (what % 16 == 0)
                control.head.store(control.head.load() + (what >> 40) % 64 * 8);
            if (what % 64 == 1)
                control.reader_sleeps.store(static_cast<std::uint32_t>(what));
            if (what % 256 == 2)
                one.ring_bell();
        }
    }
}

TEST_CASE("shm: a reader that lies about what it took, or closes, breaks the link by name") {
    fabric_pair<shm_kit> pair;
    const shm_address mine{machine_id(), "kvferry-shm-hostile-test", 5};
    auto listener = unix_socket::listen(mine.name);
    REQUIRE(listener);
    const auto accept = [&] {
        while (true) {
            REQUIRE(readable(*listener));
            auto socket = listener->accept();
            REQUIRE(socket);
            if (*socket)
                return std::move(**socket);
        }
    };
    for (const bool lies : {true, false}) {
        CAPTURE(lies);
        auto opened = pair.probe.ask<endpoint_opened>(
            pair.writer, open_endpoint{pair.target_id, pack(mine), {}, pair.probe.sink()});
        REQUIRE_MESSAGE(opened, describe(opened.error()));
        auto socket = std::make_optional(accept());
        auto hello = socket->receive();
        REQUIRE(hello.fds.size() == 1);
        auto memory = ring_memory::map(hello.fds.front().get());
        REQUIRE(memory);
        for (int i = 0; i < 20; ++i) // more than the ring holds, and nobody takes it
            pair.send(opened->endpoint, make_frame(pair.writer_id, 30000));
        pair.probe.settle(pair.writer);
        CHECK(pair.probe.waiting<endpoint_failed>() == 0);
        if (lies) {
            memory->control().tail.store(~std::uint64_t{0});
            (void)socket->send(byte_buffer(1), {});
        } else {
            socket.reset();
        }
        const auto failed = pair.probe.next<endpoint_failed>();
        CHECK(failed.endpoint == opened->endpoint);
        CHECK(code_of(failed.reason) == errc::link_lost);
        CHECK_MESSAGE(text_of(failed.reason).find(lies ? "says that it took" : "has closed")
                          != std::string::npos,
                      describe(failed.reason));
    }
    pair.check_nothing_more();
}

TEST_CASE("shm: a reader that never reads costs its writer pending_per_link_max frames at most") {
    fabric_loops kit;
    fabric_probe probe{kit.system()};
    limits few;
    few.pending_per_link_max = 10;
    auto writer =
        spawn_shm(kit.system(), kit.loop(0), {.self = {1}, .default_sink = {}, .bounds = few});
    auto target =
        spawn_shm(kit.system(), kit.loop(1), {.self = {2}, .default_sink = {}, .bounds = {}});
    REQUIRE(writer);
    REQUIRE(target);
    kit.keep(0, *writer);
    kit.keep(1, *target);
    auto described = probe.ask<fabric_description>(*target, describe_fabric{});
    REQUIRE(described);
    auto hold = kit.hold(1);
    auto opened = probe.ask<endpoint_opened>(
        *writer, open_endpoint{incarnation{2}, described->address, {}, probe.sink()});
    REQUIRE(opened);
    for (int i = 0; i < 40; ++i)
        probe.tell(*writer, send_frame{opened->endpoint, make_frame(incarnation{1}, 30000)});
    const auto failed = probe.next<endpoint_failed>();
    CHECK(code_of(failed.reason) == errc::limit_exceeded);
}
