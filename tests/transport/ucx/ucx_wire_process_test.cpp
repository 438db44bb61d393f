// SPDX-License-Identifier: Apache-2.0
// The fabric over UCX against processes that are killed in the middle of a put.
#include "tests/transport/fabric/fabric_processes.hpp"
#include "tests/transport/ucx/spawn_ucx.hpp"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <sys/socket.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr const char* writer = "helper process: ucx: writes until it is killed";
constexpr const char* target = "helper process: ucx: is written to until it is killed";
constexpr const char* parent = "helper process: ucx: its child outlives it";

const wire_kind kind{[](caf::actor_system& system, io_loop& loop, fabric_dependencies with) {
                         return spawn_ucx(system, loop, std::move(with));
                     },
                     writer, target, parent};

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

} // namespace

TEST_CASE("helper process: ucx: writes until it is killed" * doctest::skip()) {
    write_until_killed(kind);
}

TEST_CASE("helper process: ucx: is written to until it is killed" * doctest::skip()) {
    take_writes_until_killed(kind);
}

TEST_CASE("helper process: ucx: its child outlives it" * doctest::skip()) {
    have_a_child_until_killed(kind);
}

TEST_CASE("ucx: a killed rank whose child lives on is lost at once, whether the child was made by "
          "fork or by exec") {
    check_child_lives_on(kind);
}

TEST_CASE("ucx: sockets of UCX are close-on-exec, and a forked child has none of them") {
    const auto before = tcp_sockets();
    fabric_rank here{kind, here_id};
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
    check_writer_killed(kind);
}

TEST_CASE("ucx: a target killed in the middle of puts: each is answered once, then the owner is "
          "told") {
    check_target_killed(kind);
}
