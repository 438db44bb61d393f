// SPDX-License-Identifier: Apache-2.0
// The UCX fabric against processes that are killed in the middle of a put.
#include "tests/support/child_process.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_probe.hpp"
#include "tests/transport/ucx/spawn_ucx.hpp"

#include <algorithm>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr incarnation here_id{1}, child_id{2};
constexpr const char* writer = "helper process: a rank that writes until it is killed";
constexpr const char* target = "helper process: a rank that is written to until it is killed";
constexpr const char* parent = "helper process: a rank whose child outlives it";
constexpr std::uint64_t region_bytes = 32u << 20;

std::string to_hex(const byte_buffer& bytes) {
    std::string result;
    for (auto byte : bytes)
        for (auto nibble : {static_cast<unsigned>(byte) >> 4, static_cast<unsigned>(byte) & 15})
            result.push_back("0123456789abcdef"[nibble]);
    return result;
}

byte_buffer from_hex(std::string_view text) {
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

struct rank {
    fabric_loops loops;
    fabric_probe probe{loops.system()};
    fabric_probe arrivals{loops.system()};
    fabric_memory memory{region_bytes};
    fabric_actor fabric;
    rendezvous meet;

    explicit rank(incarnation self) {
        auto made = spawn_ucx(loops.system(), loops.loop(0),
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

/// Sockets of TCP that a child of this process would have, one number per socket.
std::vector<int> tcp_sockets() {
    std::vector<int> result;
    for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd"}) {
        const auto fd = std::stoi(entry.path().filename());
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0
            && address.ss_family == AF_INET)
            result.push_back(fd);
    }
    return result;
}

constexpr scattered_put half_of_the_region{16, 64, 16384};

} // namespace

TEST_CASE("helper process: a rank that writes until it is killed" * doctest::skip()) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    rank self{child_id};
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

TEST_CASE("helper process: a rank that is written to until it is killed" * doctest::skip()) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    rank self{child_id};
    self.say_hello(self.open(here_id, rendezvous::parse(child_argument())));
    self.probe.next<endpoint_failed>(); // bounded
}

/// The argument is "fork" or "exec", and where to connect.
TEST_CASE("helper process: a rank whose child outlives it" * doctest::skip()) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    rank self{child_id};
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

TEST_CASE("ucx: a killed rank whose child lives on is lost at once, whether the child was made by "
          "fork or by exec") {
    for (const std::string how : {"fork", "exec"}) {
        CAPTURE(how);
        rank here{here_id};
        child_process child{parent, how + " " + here.meet.print()};
        auto over = here.open(child_id, here.await_hello());
        here.probe.tell(here.fabric, send_frame{over, make_frame(here_id, 0)});
        const auto grandchild =
            static_cast<pid_t>(rank::await_hello(here.probe).region.base_address);
        REQUIRE(grandchild > 0);
        const auto killed = clock::now();
        child.kill();
        CHECK(here.probe.next<endpoint_failed>().endpoint == over);
        CHECK(clock::now() - killed < std::chrono::seconds{5}); // UCX's keepalive takes 18 s
        CHECK(::kill(grandchild, 0) == 0);
        ::kill(grandchild, SIGKILL);
    }
}

TEST_CASE("ucx: sockets of UCX are close-on-exec, and a forked child has none of them") {
    const auto before = tcp_sockets();
    rank here{here_id};
    child_process child{target, here.meet.print()};
    here.open(child_id, here.await_hello());
    here.probe.settle(here.fabric);
    auto sockets = tcp_sockets();
    std::erase_if(sockets,
                  [&](int fd) { return std::count(before.begin(), before.end(), fd) != 0; });
    CHECK(sockets.size() >= 2); // it listens, and is connected
    const auto closes_on_exec = [](int fd) { return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0; };
    const auto until = clock::now() + fabric_patience; // new connections are looked for again, soon
    while (!std::all_of(sockets.begin(), sockets.end(), closes_on_exec) && clock::now() < until)
        here.probe.settle(here.fabric);
    for (auto fd : sockets) {
        CAPTURE(fd);
        CHECK(closes_on_exec(fd));
    }
    const auto copy = ::fork();
    if (copy == 0)
        ::_exit(static_cast<int>(tcp_sockets().size()));
    int status = 0;
    REQUIRE(::waitpid(copy, &status, 0) == copy);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == static_cast<int>(before.size()));
    for (auto fd : sockets) { // the parent's are as they were
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        CHECK(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    }
}

TEST_CASE("ucx: a writer killed in the middle of a put costs its target nothing; after the "
          "drain no byte comes") {
    for (int round = 0; round < 4; ++round) {
        CAPTURE(round);
        rank here{here_id}; // a fabric drains a process only once
        child_process child{writer, here.meet.print()};
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

TEST_CASE("ucx: a target killed in the middle of puts: each is answered once, then the owner is "
          "told") {
    rank here{here_id};
    fabric_memory source(half_of_the_region.source_bytes(), 1);
    std::uint64_t number = 0;
    for (int round = 0; round < 4; ++round) {
        CAPTURE(round);
        child_process child{target, here.meet.print()};
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
