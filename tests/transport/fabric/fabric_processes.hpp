// SPDX-License-Identifier: Apache-2.0
// A fabric against processes that are killed in the middle of a put: helper processes and checks
// for every wire that leads to other processes.
#pragma once

#include "tests/support/child_process.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_probe.hpp"
#include "transport/fabric/fabric_io.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace kvferry::testing {

inline constexpr incarnation here_id{1}, child_id{2};
inline constexpr std::uint64_t region_bytes = 32u << 20;
inline constexpr scattered_put half_of_the_region{16, 64, 16384};

inline std::string to_hex(const byte_buffer& bytes) {
    std::string result;
    for (auto byte : bytes)
        for (auto nibble : {static_cast<unsigned>(byte) >> 4, static_cast<unsigned>(byte) & 15})
            result.push_back("0123456789abcdef"[nibble]);
    return result;
}

inline byte_buffer from_hex(std::string_view text) {
    byte_buffer result;
    for (std::size_t at = 0; at + 1 < text.size(); at += 2) {
        unsigned value = 0;
        std::from_chars(text.data() + at, text.data() + at + 2, value, 16);
        result.push_back(static_cast<caf::byte>(value));
    }
    return result;
}

/// "fabric address/region address/access key": one argument for the other process.
struct rendezvous {
    byte_buffer address;
    memory_region region;

    std::string print() const {
        return to_hex(address) + "/" + std::to_string(region.base_address) + "/"
               + to_hex(region.access_key);
    }
    static rendezvous parse(const std::string& text) {
        auto first = text.find('/'), second = text.rfind('/');
        rendezvous result{from_hex(std::string_view{text}.substr(0, first)), {}};
        result.region = {std::stoull(text.substr(first + 1)), region_bytes,
                         memory_kind::host_private,
                         from_hex(std::string_view{text}.substr(second + 1))};
        return result;
    }
};

/// A wire under test.
struct wire_kind {
    std::function<caf::expected<fabric_actor>(caf::actor_system&, io_loop&, fabric_dependencies)>
        spawn;
    /// Names of the hidden test cases that run the helpers below.
    const char* writer = nullptr;
    const char* target = nullptr;
    const char* parent = nullptr;
};

/// A rank of this process, with memory that others may write.
struct fabric_rank {
    fabric_loops loops;
    fabric_probe probe{loops.system()};
    fabric_probe arrivals{loops.system()};
    fabric_memory memory{region_bytes};
    fabric_actor fabric;
    rendezvous meet;

    fabric_rank(const wire_kind& kind, incarnation self) {
        auto made = kind.spawn(loops.system(), loops.loop(0),
                               {.self = self, .default_sink = arrivals.sink(), .bounds = {}});
        REQUIRE(made);
        fabric = loops.keep(0, *made);
        auto described = probe.ask<fabric_description>(fabric, describe_fabric{});
        auto registered = probe.ask<region_registered>(
            fabric, register_region{memory.data(), memory.size(), memory_kind::host_private});
        REQUIRE(described);
        REQUIRE(registered);
        meet = {
            described->address,
            {memory.address(), memory.size(), memory_kind::host_private, registered->access_key}};
    }

    /// Says where this rank is, like the first message of a link.
    void say_hello(endpoint_id over) {
        auto frame = make_frame(child_id, 0);
        auto text = meet.print();
        auto* bytes = reinterpret_cast<const caf::byte*>(text.data());
        frame.insert(frame.end(), bytes, bytes + text.size());
        probe.tell(fabric, send_frame{over, std::move(frame)});
    }

    rendezvous await_hello() { return await_hello(arrivals); }
    /// `from` gets the frames: the owner of the endpoint, once there is one.
    static rendezvous await_hello(fabric_probe& from) {
        auto hello = from.next<frame_arrived>().frame;
        auto skip = make_frame(child_id, 0).size();
        return rendezvous::parse(
            {reinterpret_cast<const char*>(hello.data()) + skip, hello.size() - skip});
    }

    endpoint_id open(incarnation peer, const rendezvous& to) {
        auto opened = probe.ask<endpoint_opened>(
            fabric, open_endpoint{peer, to.address, {to.region}, probe.sink()});
        REQUIRE(opened);
        return opened->endpoint;
    }
};

/// Helper: writes until it is killed.
inline void write_until_killed(const wire_kind& kind) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    fabric_rank self{kind, child_id};
    auto to = rendezvous::parse(child_argument());
    auto over = self.open(here_id, to);
    self.say_hello(over);
    self.probe
        .next<frame_arrived>(); // both sides must be connected before data moves, as on a real link
    fabric_memory source(half_of_the_region.source_bytes(), 1);
    for (std::uint64_t number = 1;; ++number) {
        self.probe.tell(self.fabric,
                        start_put{transfer_id{number}, over,
                                  half_of_the_region.job(source.address(), to.region.base_address),
                                  self.probe.completions()});
        std::memset(source.data(), static_cast<int>(number % 100 + 1), 4096);
        if (self.probe.next<transfer_done>().result != agent_result::success)
            return;
    }
}

/// Helper: is written to until it is killed.
inline void take_writes_until_killed(const wire_kind& kind) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    fabric_rank self{kind, child_id};
    self.say_hello(self.open(here_id, rendezvous::parse(child_argument())));
    self.probe.next<endpoint_failed>(); // bounded
}

/// Helper whose child outlives it. Its argument is "fork" or "exec", and where to connect.
inline void have_a_child_until_killed(const wire_kind& kind) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    fabric_rank self{kind, child_id};
    auto over = self.open(here_id, rendezvous::parse(child_argument().substr(5)));
    self.say_hello(over);
    self.probe.next<frame_arrived>(); // both sides are connected
    pid_t child = -1;
    if (child_argument().starts_with("exec")) {
        char name[] = "sleep", seconds[] = "60";
        char* const words[] = {name, seconds, nullptr};
        REQUIRE(::posix_spawnp(&child, name, nullptr, nullptr, words, environ) == 0);
    } else if (child = ::fork(); child == 0) {
        ::alarm(60);
        for (;;)
            ::pause();
    }
    self.meet.region.base_address = static_cast<std::uint64_t>(child);
    self.say_hello(over);
    self.probe.next<endpoint_failed>();
}

/// A killed rank whose child lives on is lost at once, however the child was made.
inline void check_child_lives_on(const wire_kind& kind) {
    for (const std::string how : {"fork", "exec"}) {
        CAPTURE(how);
        fabric_rank here{kind, here_id};
        child_process child{kind.parent, how + " " + here.meet.print()};
        auto over = here.open(child_id, here.await_hello());
        here.probe.tell(here.fabric, send_frame{over, make_frame(here_id, 0)});
        const auto grandchild =
            static_cast<pid_t>(fabric_rank::await_hello(here.probe).region.base_address);
        REQUIRE(grandchild > 0);
        const auto killed = clock::now();
        child.kill();
        CHECK(here.probe.next<endpoint_failed>().endpoint == over);
        CHECK(clock::now() - killed < std::chrono::seconds{5});
        CHECK(::kill(grandchild, 0) == 0);
        ::kill(grandchild, SIGKILL);
    }
}

/// A writer killed in the middle of a put costs its target nothing; after the drain no byte
/// comes.
inline void check_writer_killed(const wire_kind& kind) {
    for (int round = 0; round < 4; ++round) {
        CAPTURE(round);
        fabric_rank here{kind, here_id}; // a fabric drains a process only once
        child_process child{kind.writer, here.meet.print()};
        auto over = here.open(child_id, here.await_hello());
        here.probe.tell(here.fabric, send_frame{over, make_frame(here_id, 0)});
        auto* first = static_cast<volatile std::byte*>(here.memory.data() + region_bytes / 2);
        const auto until = clock::now() + fabric_patience;
        auto landed = [&] {
            for (std::uint64_t at = 0; at < region_bytes / 2; at += 16384)
                if (first[at] != std::byte{0})
                    return true;
            return false;
        };
        while (!landed() && clock::now() < until)
            std::this_thread::yield();
        REQUIRE(landed());
        {
            // Bytes on their way at the child's death stay in the sockets while the loop is held.
            auto hold = here.loops.hold(0);
            child.kill();
        }
        REQUIRE_FALSE(here.probe.ask(here.fabric, drain_fabric{child_id}));
        const std::vector<std::byte> then(here.memory.data(),
                                          here.memory.data() + here.memory.size());
        CHECK(here.probe.next<endpoint_failed>().endpoint == over);
        REQUIRE_FALSE(here.probe.ask(here.fabric, drain_fabric{child_id}));
        CHECK(std::memcmp(then.data(), here.memory.data(), then.size()) == 0);
    }
}

/// A target killed in the middle of puts: each is answered once, then the owner is told.
inline void check_target_killed(const wire_kind& kind) {
    fabric_rank here{kind, here_id};
    fabric_memory source(half_of_the_region.source_bytes(), 1);
    std::uint64_t number = 0;
    for (int round = 0; round < 4; ++round) {
        CAPTURE(round);
        child_process child{kind.target, here.meet.print()};
        auto to = here.await_hello();
        auto over = here.open(child_id, to);
        constexpr int puts = 8;
        child.freeze(); // frozen first, so that it dies in the middle of the put
        for (int i = 0; i < puts; ++i)
            here.probe.tell(here.fabric, start_put{transfer_id{++number}, over,
                                                   half_of_the_region.job(source.address(),
                                                                          to.region.base_address),
                                                   here.probe.completions()});
        here.probe.settle(here.fabric);
        child.kill();
        CHECK(here.probe.doubts(puts) > 0);
        CHECK(here.probe.next<endpoint_failed>().endpoint == over);
        here.probe.settle(here.fabric);
        CHECK(here.probe.waiting<transfer_done>() == 0);
        CHECK(here.probe.waiting<endpoint_failed>() == 0);
    }
}

} // namespace kvferry::testing
