// SPDX-License-Identifier: Apache-2.0
// The UCX fabric keeps the fabric's promises over TCP loopback, and leaves nothing behind.
#include "tests/support/kept_log.hpp"
#include "tests/support/open_resources.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_ends_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/ucx/spawn_ucx.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>

namespace kvferry::testing {

template <put_method method>
struct ucx_kit_by : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made = spawn_ucx(system(), loop(number),
                              {.self = self, .default_sink = sink, .bounds = {}}, method);
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

using ucx_kit = ucx_kit_by<put_method::automatic>;
/// UCX's emulation of RMA stands in for the hardware: it uses the same calls. It checks no keys,
/// and a writer that dies or closes by force may abort its target, so these promises are not tested
/// here.
using ucx_rma_kit = ucx_kit_by<put_method::rma>;

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::ucx_kit);
TYPE_TO_STRING(kvferry::testing::ucx_rma_kit);
KVFERRY_FABRIC_CONFORMANCE(ucx_kit)
KVFERRY_FABRIC_STAGING_CONFORMANCE(ucx_kit)
KVFERRY_FABRIC_ENDS_CONFORMANCE(ucx_kit)

namespace kvferry::testing {
TEST_CASE_TEMPLATE_INVOKE(fabric_frames, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_put, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_bounds, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_many, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_cancel, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_close, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_dial, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_duplicate, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(fabric_register, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(staging_put, ucx_rma_kit); // by message, beside puts by RMA
TEST_CASE_TEMPLATE_INVOKE(staging_mixed, ucx_rma_kit);
TEST_CASE_TEMPLATE_INVOKE(staging_turns, ucx_rma_kit);
} // namespace kvferry::testing

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("ucx: no setting of ours is unknown to the UCX that is loaded: the names differ by its "
          "version") {
    const kept_log log{spdlog::level::info};
    { fabric_pair<ucx_kit> pair; }
    CHECK(log.count("invalid configuration") == 0);
}

TEST_CASE("ucx: a construction step that fails is named and leaves nothing behind") {
    fabric_loops kit;
    { // UCX makes some resources at first use; now they exist
        fabric_probe probe{kit.system()};
        auto first = spawn_ucx(kit.system(), kit.loop(0));
        REQUIRE(first);
        REQUIRE_FALSE(probe.ask(*first, stop_io{}));
    }
    const auto before = open_resources();
    for (const char* step :
         {"ucp_config_read", "ucp_init", "ucp_worker_create", "ucp_worker_get_address",
          "ucp_worker_set_am_recv_handler", "ucp_worker_get_efd", "epoll_ctl"}) {
        CAPTURE(step);
        failing_call failure{step, EMFILE};
        auto made = spawn_ucx(kit.system(), kit.loop(0));
        REQUIRE_FALSE(made);
        CHECK_MESSAGE(text_of(made.error()).find(step) != std::string::npos,
                      describe(made.error()));
        CHECK(open_resources() == before);
    }
}

TEST_CASE("ucx: memory that UCX refuses is refused by name") {
    fabric_memory memory(4096);
    fabric_pair<ucx_rma_kit> pair;
    for (const char* step : {"ucp_mem_map", "ucp_rkey_pack"}) {
        failing_call failure{step, ENOMEM};
        auto refused = pair.probe.ask<region_registered>(
            pair.target, register_region{memory.data(), memory.size(), memory_kind::host_private});
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::registration_failed);
        CHECK(text_of(refused.error()).find(step) != std::string::npos);
    }
    pair.share(memory);
}

TEST_CASE("ucx: an endpoint that UCX refuses at once fails as one that fails later") {
    fabric_pair<ucx_kit> pair;
    auto address = pair.address_of(pair.target);
    endpoint_id refused;
    {
        failing_call failure{"ucp_ep_create", ENOMEM};
        refused = pair.open();
    }
    auto failed = pair.probe.next<endpoint_failed>();
    CHECK(failed.endpoint == refused);
    pair.check_nothing_more();
}

TEST_CASE("ucx: a drained peer that lives after all stays refused, and is not dialled again") {
    const scattered_put shape{2, 2, 256};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0);
    fabric_pair<ucx_kit> pair;
    auto over = pair.open({pair.share(target)});
    pair.check_alive(over, target);
    REQUIRE_FALSE(pair.probe.ask(pair.target, drain_fabric{pair.writer_id}));
    std::memset(target.data(), 0, target.size());
    pair.put(over, shape.job(source.address(), target.address()));
    auto done = pair.probe.next<transfer_done>();
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::transfer_failed);
    CHECK(std::count(target.data(), target.data() + target.size(), std::byte{0})
          == std::ptrdiff_t(target.size()));
    const auto again = pair.probe.ask<endpoint_opened>(
        pair.target,
        open_endpoint{pair.writer_id, pair.address_of(pair.writer), {}, pair.probe.sink()});
    REQUIRE_FALSE(again);
    CHECK(code_of(again.error()) == errc::peer_gone);
}
