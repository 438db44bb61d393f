// SPDX-License-Identifier: Apache-2.0
// host_link_io against other processes: killed ones, frozen ones, and ones that send wrong packets.
#include "tests/support/child_process.hpp"
#include "tests/support/open_resources.hpp"
#include "tests/transport/host_link/host_link_conformance.hpp"
#include "transport/host_link/host_link_hello.hpp"
#include "transport/host_link/memory_mapping.hpp"
#include "transport/host_link/process_watch.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/same_host/socket_file.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <filesystem>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

constexpr const char* helper = "helper process: a rank that dials and then waits to be killed";
constexpr const char* other_pid_namespace =
    "helper process: the same in a pid namespace of its own";

struct dialled_from_child {
    socket_world world;
    linked_rank here = world.rank(1);
    child_process child{helper, here.name};

    /// The child writes this as soon as its link is up.
    bool child_has_written() {
        auto* place = static_cast<volatile std::byte*>(here.pool.base() + 100);
        const auto until = clock::now() + patience;
        while (*place != std::byte{99} && clock::now() < until)
            std::this_thread::yield();
        return *place == std::byte{99};
    }
};

/// A peer made by hand.
struct raw_peer {
    unix_socket socket;

    explicit raw_peer(const linked_rank& to) : socket(connect(to.name)) {}

    static unix_socket connect(const std::string& name) {
        auto made = unix_socket::connect(name);
        REQUIRE(made);
        REQUIRE(made->has_value());
        return std::move(**made);
    }

    void send(const byte_buffer& bytes, const std::vector<int>& fds = {}) {
        auto sent = socket.send(bytes, fds);
        REQUIRE(sent);
        REQUIRE(*sent);
    }

    received_packet next() {
        pollfd look{socket.fd(), POLLIN, 0};
        REQUIRE(::poll(&look, 1, std::chrono::milliseconds{patience}.count()) == 1);
        return socket.receive();
    }

    /// Why the other side closes the connection; errc::none when it gives no reason.
    errc refusal() {
        for (;;) {
            auto got = next();
            if (got.what != received_packet::kind::packet)
                return errc::none;
            auto packet = decode_host_link_packet(got.bytes, got.fds.size());
            REQUIRE(packet);
            if (auto* refused = std::get_if<hello_refusal>(&*packet))
                return refused->reason.code;
        }
    }
};

byte_buffer hello(std::uint64_t from, const linked_rank& to,
                  std::vector<hello_region> regions = {}) {
    return encode(
        host_link_packet{split_hello(incarnation{from}, to.id, to.token, regions).front()});
}

} // namespace

TEST_CASE("helper process: a rank that dials and then waits to be killed" * doctest::skip()) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    socket_world world;
    auto rank = world.rank(2);
    rank.dial(incarnation{1}, child_argument(), link_token{1000});
    auto up = rank.owner->wait_for(1);
    REQUIRE(up.size() == 1);
    REQUIRE(up[0].what == link_event::kind::up);
    up[0].mapped.at(0).base[100] = std::byte{99};
    rank.owner->wait_for(2); // waits for the link's end, with a limit
    world.stop(rank);
}

TEST_CASE("helper process: the same in a pid namespace of its own" * doctest::skip()) {
    REQUIRE_FALSE(child_argument().empty());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::unshare(CLONE_NEWPID) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
        return;
    const auto inside = ::fork();
    REQUIRE(inside >= 0);
    if (inside > 0) {
        ::waitpid(inside, nullptr, 0);
        return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const std::string test_case = std::string{"--test-case="} + helper;
    ::execl("/proc/self/exe", "/proc/self/exe", "--no-skip", test_case.c_str(), nullptr);
    ::_exit(1);
}

TEST_CASE("host_link: a killed process is reported as down, then gone, once each") {
    dialled_from_child scene;
    scene.here.expect(incarnation{2});
    REQUIRE(scene.here.told(1) == "up 2");
    REQUIRE(scene.child_has_written());
    scene.child.kill();
    CHECK(scene.here.told(3) == "up 2, down 2 link_lost, gone 2");
    // The dead peer's memory can still be read.
    CHECK(scene.here.owner->wait_for(1)[0].mapped.at(0).base[0] == std::byte{0});
    scene.world.stop(scene.here);
    CHECK(link_owner::print(scene.here.owner->all()) == "up 2, down 2 link_lost, gone 2");
}

TEST_CASE("host_link: after a closed link the end of the process is still told, once") {
    dialled_from_child scene;
    scene.here.expect(incarnation{2});
    REQUIRE(scene.here.told(1) == "up 2");
    scene.here.close(incarnation{2});
    REQUIRE(scene.here.told(2) == "up 2, down 2 cancelled");
    scene.child.kill();
    CHECK(scene.here.told(3) == "up 2, down 2 cancelled, gone 2");
    scene.world.stop(scene.here);
}

TEST_CASE("host_link: a frozen process is neither down nor gone until it is killed") {
    dialled_from_child scene;
    scene.here.expect(incarnation{2});
    REQUIRE(scene.here.told(1) == "up 2");
    scene.child.freeze();
    // When another link has come and gone, the loop has turned many times.
    auto other = scene.world.rank(5);
    other.dial(scene.here);
    scene.here.expect(other.id);
    REQUIRE(other.told(1) == "up 1");
    scene.world.stop(other);
    CHECK(scene.here.told(3) == "up 2, up 5, down 5 link_lost");
    scene.child.kill();
    CHECK(scene.here.told(5) == "up 2, up 5, down 5 link_lost, down 2 link_lost, gone 2");
    scene.world.stop(scene.here);
}

TEST_CASE("host_link: a process that dies before it is expected is never up") {
    dialled_from_child scene;
    REQUIRE(scene.child_has_written());
    scene.child.kill();
    scene.here.expect(incarnation{2}, 200ms);
    auto told = scene.here.owner->wait_for(1);
    // The link may never come up: the loop may see the end before the link is expected.
    if (told[0].what == link_event::kind::up)
        CHECK(scene.here.told(3) == "up 2, down 2 link_lost, gone 2");
    else
        CHECK(scene.here.told(1) == "down 2 deadline_exceeded");
    scene.world.stop(scene.here);
}

TEST_CASE("host_link: memory that its owner can shrink, or that is shorter than promised, is never "
          "mapped; the link is up and says why") {
    socket_world world;
    auto here = world.rank(1);
    unique_fd shrinks{::memfd_create("shrinks", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(shrinks.get(), 8192) == 0);
    auto small = memfd_pool::make("small", 4096);
    auto good = memfd_pool::make("good", 4096);
    REQUIRE(small);
    REQUIRE(good);
    here.expect(incarnation{2});
    raw_peer peer{here};
    peer.send(hello(2, here, {{0, 8192}, {1, std::uint64_t{1} << 40}, {2, 4096}}),
              {shrinks.get(), small->fd(), good->fd()});
    const auto up = here.owner->wait_for(1);
    REQUIRE(up.size() == 1);
    REQUIRE(up[0].what == link_event::kind::up);
    REQUIRE(up[0].mapped.size() == 1);
    CHECK(up[0].mapped[0].region == 2);
    REQUIRE(up[0].obstacles.size() == 2);
    CHECK(up[0].obstacles.at(0).find("not a memfd sealed against shrinking") != std::string::npos);
    CHECK(up[0].obstacles.at(1).find("its descriptor holds 4096") != std::string::npos);
    world.stop(here);
}

TEST_CASE("host_link: when only one side can map all that it is offered, the link is up on both") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    unique_fd shrinks{::memfd_create("shrinks", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    REQUIRE(::ftruncate(shrinks.get(), 8192) == 0);
    world.share(a, {5, shrinks.get(), 8192, nullptr});
    b.expect(a.id);
    a.dial(b);
    const auto here = a.owner->wait_for(1), there = b.owner->wait_for(1);
    REQUIRE(here.size() == 1);
    REQUIRE(there.size() == 1);
    CHECK(here[0].what == link_event::kind::up);
    CHECK(here[0].mapped.size() == 1);
    CHECK(here[0].obstacles.empty());
    CHECK(there[0].what == link_event::kind::up);
    CHECK(there[0].mapped.size() == 1);
    CHECK(there[0].obstacles.count(5) == 1);
    world.stop(a);
    CHECK(b.told(2) == "up 1, down 1 link_lost");
    world.stop(b);
}

TEST_CASE("host_link: anything but a hello closes the connection, is counted, and leaves nothing") {
    socket_world world;
    auto here = world.rank(1);
    auto pool = memfd_pool::make("pool", 4096);
    REQUIRE(pool);
    const auto good = hello(2, here, {{0, 4096}});
    auto other_version = good;
    other_version[5] = static_cast<caf::byte>(protocol_version + 1);
    struct wrong {
        byte_buffer bytes;
        std::vector<int> fds;
        errc reason;
    };
    const std::vector<wrong> all = {
        {byte_buffer(100, caf::byte{0x55}), {}, errc::malformed_message},
        {byte_buffer(100, caf::byte{0x55}), {pool->fd()}, errc::malformed_message},
        {byte_buffer(5000, caf::byte{0}), {pool->fd()}, errc::malformed_message},
        {good, {}, errc::malformed_message},
        {good, {pool->fd(), pool->fd()}, errc::malformed_message},
        {other_version, {pool->fd()}, errc::protocol_mismatch},
    };
    const auto before = open_resources();
    for (const auto& x : all) {
        CAPTURE(x.bytes.size());
        raw_peer peer{here};
        peer.send(x.bytes, x.fds);
        CHECK(peer.refusal() == x.reason);
        CHECK(peer.next().what == received_packet::kind::end);
    }
    world.share(here, {4, pool->fd(), 4096, nullptr}); // now the loop has done all earlier work
    CHECK(world.counters->refused == all.size());
    CHECK(open_resources() == before);
    world.stop(here);
    CHECK(here.owner->all().empty());
}

TEST_CASE("host_link: packets after the hello change nothing and are counted") {
    socket_world world;
    auto here = world.rank(1);
    here.expect(incarnation{2});
    {
        raw_peer peer{here};
        peer.send(hello(2, here));
        REQUIRE(here.told(1) == "up 2");
        peer.send(hello(2, here));
        peer.send(hello(2, here));
    }
    CHECK(here.told(2) == "up 2, down 2 link_lost");
    CHECK(world.counters->ignored == 2);
    world.stop(here);
}

TEST_CASE("host_link: connections that nobody asked for are bounded") {
    socket_world world;
    auto here = world.rank(1, limits{.unexpected_host_links_max = 3});
    std::vector<std::unique_ptr<raw_peer>> peers;
    for (std::uint64_t id = 2; id < 5; ++id) {
        peers.push_back(std::make_unique<raw_peer>(here));
        peers.back()->send(hello(id, here));
        CHECK(peers.back()->next().what == received_packet::kind::packet); // the answer's hello
    }
    raw_peer one_too_many{here};
    CHECK(one_too_many.refusal() == errc::limit_exceeded);
    here.expect(incarnation{3});
    CHECK(here.told(1) == "up 3");
    raw_peer fits_again{here};
    fits_again.send(hello(9, here));
    CHECK(fits_again.next().what == received_packet::kind::packet);
    world.stop(here);
}

TEST_CASE("host_link: more regions than one packet carries arrive all") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    for (std::uint32_t region = 10; region < 610; ++region)
        tell_from_outside(a.links, share_region{region, a.pool.fd(), a.pool.bytes(), nullptr});
    a.dial(b);
    b.expect(a.id);
    REQUIRE(b.told(1) == "up 1");
    CHECK(b.owner->wait_for(1)[0].mapped.size() == 601);
    CHECK(a.told(1) == "up 2");
    world.stop(a);
    world.stop(b);
}

TEST_CASE("host_link: more regions than the limit are refused on both sides") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2, limits{.shared_regions_max = 300});
    for (std::uint32_t region = 10; region < 610; ++region)
        tell_from_outside(a.links, share_region{region, a.pool.fd(), a.pool.bytes(), nullptr});
    a.dial(b);
    CHECK(a.told(1) == "down 2 limit_exceeded");
    world.stop(a);
    world.stop(b);
}

TEST_CASE("host_link: without a way to see the peer's end there is no link") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    {
        failing_call fails{"SO_PEERPIDFD", EPERM};
        a.dial(b);
        CHECK(a.told(1) == "down 2 unsupported");
    }
    {
        failing_call fails{"SO_PEERCRED", EPERM};
        a.dial(b);
        CHECK(a.told(2) == "down 2 unsupported, down 2 system_call_failed");
    }
    world.stop(a);
    world.stop(b);
}

TEST_CASE("host_link: a peer in another pid namespace is mapped, and its end is proven") {
    socket_world world;
    auto here = world.rank(1);
    here.expect(incarnation{2});
    child_process child{other_pid_namespace, here.name};
    const auto up = here.owner->wait_for(1);
    REQUIRE(up.size() == 1);
    if (up[0].what == link_event::kind::down && up[0].reason == errc::deadline_exceeded) {
        MESSAGE("this test needs the right to make pid namespaces");
        return;
    }
    CHECK(up[0].what == link_event::kind::up);
    CHECK(up[0].process_watched);
    CHECK(up[0].mapped.size() == 1);
    child.kill();
    CHECK(here.told(3) == "up 2, down 2 link_lost, gone 2");
    world.stop(here);
}

TEST_CASE(
    "host_link: where the abstract name is not seen, the socket is found as a file, and the file "
    "goes with its rank") {
    char pattern[] = "/tmp/kvferry-sockets-XXXXXX";
    const std::string folder = ::mkdtemp(pattern);
    auto files = [&folder] {
        std::vector<std::string> result;
        for (const auto& entry : std::filesystem::directory_iterator{folder})
            result.push_back(entry.path().filename());
        return result;
    };
    socket_world world;
    world.folder = folder;
    auto a = world.rank(1);
    auto b = world.rank(2);
    CHECK(files().size() == 2);
    b.expect(a.id);
    SUBCASE("found") {
        // An abstract name that nobody has, as in another network namespace; the file has another.
        std::filesystem::rename(socket_file::path_in(folder, b.name),
                                socket_file::path_in(folder, "kvferry-elsewhere"));
        a.dial(b.id, "kvferry-elsewhere", b.token);
        CHECK(a.told(1) == "up 2");
        CHECK(b.told(1) == "up 1");
        std::filesystem::rename(socket_file::path_in(folder, "kvferry-elsewhere"),
                                socket_file::path_in(folder, b.name));
    }
    SUBCASE("a file that a killed rank has left is removed by the next one; live ones stay") {
        std::filesystem::create_hard_link(socket_file::path_in(folder, b.name),
                                          socket_file::path_in(folder, "kvferry-stale"));
        world.stop(b);
        CHECK(files().size() == 2); // the stale one and that of a
        auto c = world.rank(3);
        CHECK(files().size() == 2);
        CHECK(std::filesystem::exists(socket_file::path_in(folder, a.name)));
        CHECK_FALSE(std::filesystem::exists(socket_file::path_in(folder, "kvferry-stale")));
        world.stop(c);
        b = world.rank(2);
    }
    world.stop(a);
    world.stop(b);
    CHECK(files().empty());
    std::filesystem::remove_all(folder);
}

TEST_CASE("host_link: a folder that cannot be used fails the start by name, and leaves nothing") {
    socket_world world;
    const auto before = open_resources();
    for (const auto* folder : {"relative", "/no/such/folder"}) {
        CAPTURE(folder);
        auto made = spawn_host_link(world.system(), {&world.loop(),
                                                     incarnation{1},
                                                     "kvferry-test-x",
                                                     link_token{},
                                                     {},
                                                     world.counters,
                                                     folder});
        REQUIRE_FALSE(made);
        CHECK(text_of(made.error()).find(folder) != std::string::npos);
        CHECK(open_resources() == before);
    }
}

TEST_CASE("host_link: whichever step of its making fails, nothing is left") {
    socket_world world;
    const auto before = open_resources();
    for (const auto* step : {"socket", "bind", "listen"}) {
        CAPTURE(step);
        failing_call fails{step, EMFILE};
        auto made = spawn_host_link(
            world.system(),
            {&world.loop(), incarnation{1}, "kvferry-test-x", link_token{}, {}, world.counters});
        CHECK(code_of(made.error()) == errc::system_call_failed);
        CHECK(open_resources() == before);
    }
    auto named = spawn_host_link(
        world.system(),
        {&world.loop(), incarnation{1}, std::string(200, 'x'), link_token{}, {}, world.counters});
    CHECK(code_of(named.error()) == errc::invalid_argument);
}

TEST_CASE("host_link: a lack of descriptors when it accepts ends by itself") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    std::optional<failing_call> fails;
    fails.emplace("accept4", EMFILE);
    b.expect(a.id);
    a.dial(b);
    auto probe = world.rank(3); // the loop has turned: it does not hang on the failing call
    fails.reset();
    CHECK(a.told(1) == "up 2");
    CHECK(b.told(1) == "up 1");
    world.stop(a);
    world.stop(b);
    world.stop(probe);
}

TEST_CASE("process_watch: without the newer way the older one gives the same proof") {
    dialled_from_child scene;
    failing_call fails{"SO_PEERPIDFD", ENOPROTOOPT};
    scene.here.expect(incarnation{2});
    REQUIRE(scene.here.told(1) == "up 2");
    scene.child.kill();
    CHECK(scene.here.told(3) == "up 2, down 2 link_lost, gone 2");
    scene.world.stop(scene.here);
}

TEST_CASE("process_watch: a descriptor turns readable when the process has ended, not before") {
    socket_world world;
    auto name = "kvferry-test-watch-" + std::to_string(::getpid());
    auto listener = unix_socket::listen(name);
    REQUIRE(listener);
    child_process child{helper, name};
    pollfd look{listener->fd(), POLLIN, 0};
    REQUIRE(::poll(&look, 1, 20000) == 1);
    auto connection = listener->accept();
    REQUIRE(connection);
    auto watched = watch_process(**connection);
    REQUIRE(watched);
    pollfd process{watched->get(), POLLIN, 0};
    CHECK(::poll(&process, 1, 0) == 0);
    child.kill();
    CHECK(::poll(&process, 1, 20000) == 1);
    // Afterwards the watch either fails or is readable at once. It never watches another process.
    if (auto late = watch_process(**connection)) {
        pollfd ended{late->get(), POLLIN, 0};
        CHECK(::poll(&ended, 1, 0) == 1);
    } else {
        CHECK(code_of(late.error()) == errc::peer_gone);
    }
    failing_call fails{"SO_PEERPIDFD", ENOPROTOOPT};
    CHECK(code_of(watch_process(**connection).error()) == errc::peer_gone);
}

TEST_CASE(
    "host_link: chunks of a peer's device memory arrive as descriptors, in the order of their "
    "addresses, beside its mapped regions") {
    socket_world world;
    auto a = world.rank(1);
    auto b = world.rank(2);
    auto other = memfd_pool::make("chunk", 8192);
    REQUIRE(other);
    const auto share = [&](std::uint32_t chunk, const memfd_pool& memory) {
        tell_from_outside(a.links, share_region{device_chunk_number(5, chunk), memory.fd(),
                                                memory.bytes(), nullptr});
    };
    share(1, *other);
    share(0, a.pool);
    a.dial(b);
    b.expect(a.id);
    REQUIRE(b.told(1) == "up 1");
    const auto up = b.owner->wait_for(1)[0];
    CHECK(up.mapped.size() == 1);
    CHECK(up.obstacles.empty());
    REQUIRE(up.chunks.size() == 1);
    const auto& chunks = up.chunks.at(5);
    REQUIRE(chunks.size() == 2);
    CHECK(chunks[0].bytes == a.pool.bytes());
    CHECK(chunks[1].bytes == other->bytes());
    other->base()[7] = std::byte{42};
    auto mapping = memory_mapping::make(chunks[1].descriptor, chunks[1].bytes);
    REQUIRE(mapping);
    CHECK(mapping->base()[7] == std::byte{42});
    world.stop(a);
    world.stop(b);
}
