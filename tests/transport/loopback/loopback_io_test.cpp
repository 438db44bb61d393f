// SPDX-License-Identifier: Apache-2.0
// The fabric's twin keeps the fabric's promises, and a few of its own.
#include "tests/support/recording_stub.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "transport/loopback/loopback_io.hpp"

namespace kvferry::testing {

struct loopback_kit : fabric_loops {
    std::shared_ptr<loopback_network> network = std::make_shared<loopback_network>();

    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made =
            spawn_loopback_io(system(), placement{&loop(number)}, {network, self, sink, {}});
        REQUIRE(made);
        return keep(number, *made);
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::loopback_kit);
KVFERRY_FABRIC_CONFORMANCE(loopback_kit)
KVFERRY_FABRIC_STAGING_CONFORMANCE(loopback_kit)

using namespace kvferry;

TEST_CASE("loopback_io: on virtual time a put lands piece by piece, and one that is in doubt may "
          "still land") {
    testing::virtual_system vs;
    testing::stub<frame_sink_actor> sink{vs};
    testing::stub<completion_actor> completions{vs};
    auto network = std::make_shared<loopback_network>();
    limits bounds;
    bounds.copy_piece_bytes_max = 1024;
    bounds.puts_in_flight_max = 4;
    auto spawn = [&](std::uint64_t self) {
        auto made =
            spawn_loopback_io(vs.system(), {}, {network, incarnation{self}, sink.handle(), bounds});
        REQUIRE(made);
        return vs.track(*made);
    };
    auto writer = spawn(1), target = spawn(2);
    auto address = vs.ask_and_run<fabric_description>(target, describe_fabric{}).value().address;
    testing::fabric_memory source(8192, 1), memory(16384, 0);
    auto registered = vs.ask_and_run<region_registered>(
        target, register_region{memory.data(), memory.size(), memory_kind::host_private});
    auto opened = vs.ask_and_run<endpoint_opened>(
        writer, open_endpoint{incarnation{2},
                              address,
                              {{memory.address(), memory.size(), memory_kind::host_private,
                                registered.value().access_key}},
                              sink.handle()});
    const testing::scattered_put shape{1, 8, 1024};
    caf::anon_send(writer,
                   start_put{transfer_id{1}, opened.value().endpoint,
                             shape.job(source.address(), memory.address()), completions.handle()});
    auto landed = [&] {
        return std::count(memory.data(), memory.data() + memory.size(), std::byte{1});
    };
    while (landed() == 0)
        REQUIRE(vs.scheduler().try_run_once());
    CHECK(landed() == 1024);
    // A hook for tests: the endpoint breaks. Its owner is told after the transfer was answered.
    caf::anon_send(writer, endpoint_failed{opened.value().endpoint, incarnation{2},
                                           make_error(errc::link_lost, "broken by the test")});
    auto drained = vs.ask<void>(target, drain_fabric{});
    vs.run();
    REQUIRE(completions.received<transfer_done>().size() == 1);
    CHECK(completions.received<transfer_done>()[0].result == agent_result::in_doubt);
    CHECK(sink.received<endpoint_failed>().size() == 1);
    CHECK(drained.ok());
    CHECK(landed() > 1024); // the doubt was justified: what had been posted did arrive
    CHECK(landed() < 8192); // and nothing was posted after the break
}
