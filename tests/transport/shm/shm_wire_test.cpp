// SPDX-License-Identifier: Apache-2.0
// The wire over shared memory keeps the fabric's promises, and leaves nothing behind.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_ends_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/fabric/nothing_left.hpp"
#include "tests/transport/shm/spawn_shm.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/shm/shm_address.hpp"

#include <cerrno>
#include <filesystem>

namespace kvferry::testing {

struct shm_kit : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made =
            spawn_shm(system(), loop(number), {.self = self, .default_sink = sink, .bounds = {}});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::shm_kit);
KVFERRY_FABRIC_CONFORMANCE(shm_kit)
KVFERRY_FABRIC_STAGING_CONFORMANCE(shm_kit)
KVFERRY_FABRIC_ENDS_CONFORMANCE(shm_kit)

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("shm: a construction step that fails is named and leaves nothing behind") {
    fabric_loops kit;
    const auto before = open_resources();
    for (const char* step : {"socket", "bind", "listen", "epoll_ctl"}) {
        CAPTURE(step);
        failing_call failure{step, EMFILE};
        auto made = spawn_shm(kit.system(), kit.loop(0));
        REQUIRE_FALSE(made);
        CHECK_MESSAGE(text_of(made.error()).find(step) != std::string::npos,
                      describe(made.error()));
        CHECK(open_resources() == before);
    }
}

TEST_CASE("shm: a connection that cannot be made is refused at once, and leaves nothing behind") {
    fabric_pair<shm_kit> pair;
    const auto address = pair.address_of(pair.target);
    const auto refusal = [&](const byte_buffer& to) {
        auto opened = pair.probe.ask<endpoint_opened>(
            pair.writer, open_endpoint{pair.target_id, to, {}, pair.probe.sink()});
        REQUIRE_FALSE(opened);
        return text_of(opened.error());
    };
    pair.check_nothing_more();
    const auto before = open_resources();
    for (const char* step : {"socket", "connect", "SO_PEERCRED", "memfd_create", "mmap ring",
                             "sendmsg", "epoll_ctl"}) {
        CAPTURE(step);
        failing_call failure{step, EMFILE};
        CHECK(refusal(address) != "");
    }
    auto elsewhere = *parse_shm_address(address);
    elsewhere.machine.back() ^= 1;
    CHECK(refusal(pack(elsewhere)).find("another machine") != std::string::npos);
    auto nobody = *parse_shm_address(address);
    nobody.name += "-not-there";
    CHECK(refusal(pack(nobody)).find("network namespace") != std::string::npos);
    CHECK(is_down_to(before, pair));
    fabric_memory memory(4096);
    const auto over = pair.open({pair.share(memory)});
    pair.check_alive(over, memory);
}

TEST_CASE("shm: a peer that does not know the secret is refused by name") {
    fabric_pair<shm_kit> pair;
    auto wrong = *parse_shm_address(pair.address_of(pair.target));
    ++wrong.secret;
    auto opened = pair.probe.ask<endpoint_opened>(
        pair.writer, open_endpoint{pair.target_id, pack(wrong), {}, pair.probe.sink()});
    REQUIRE(opened);
    const auto failed = pair.probe.next<endpoint_failed>();
    CHECK(failed.endpoint == opened->endpoint);
    CHECK_MESSAGE(text_of(failed.reason).find("secret") != std::string::npos,
                  describe(failed.reason));
    pair.check_nothing_more();
}

TEST_CASE("shm: a socket in a folder leads there when its name is taken away") {
    fabric_loops kit;
    fabric_probe probe{kit.system()}, arrivals{kit.system()};
    const auto folder = std::filesystem::temp_directory_path() / "kvferry-shm-test";
    std::filesystem::create_directories(folder);
    const shm_wire_options options{.bounds = {}, .folder = folder.string()};
    const auto spawn = [&](int number, incarnation self) {
        auto made =
            spawn_shm(kit.system(), kit.loop(number),
                      {.self = self, .default_sink = arrivals.sink(), .bounds = {}}, options);
        REQUIRE_MESSAGE(made, describe(made.error()));
        return kit.keep(number, *made);
    };
    auto writer = spawn(0, incarnation{1}), target = spawn(1, incarnation{2});
    auto described = probe.ask<fabric_description>(target, describe_fabric{});
    REQUIRE(described);
    auto address = *parse_shm_address(described->address);
    const auto file = folder / (address.name + ".socket");
    REQUIRE(std::filesystem::exists(file));
    std::filesystem::rename(file, folder / "other.socket"); // no abstract socket has this name
    address.name = "other";
    auto opened = probe.ask<endpoint_opened>(
        writer, open_endpoint{incarnation{2}, pack(address), {}, probe.sink()});
    REQUIRE_MESSAGE(opened, describe(opened.error()));
    probe.tell(writer, send_frame{opened->endpoint, make_frame(incarnation{1}, 3)});
    CHECK(arrivals.next<frame_arrived>().frame == make_frame(incarnation{1}, 3));
    std::filesystem::remove_all(folder);
}
