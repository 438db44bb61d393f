// SPDX-License-Identifier: Apache-2.0
// Any bit of a put that flips on a wire is found by whoever places the bytes, on every wire that
// carries messages, into host memory and into staging memory.
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/fabric/flipping_wire.hpp"
#include "transport/shm/shm_wire.hpp"
#include "transport/tcp/tcp_wire.hpp"
#include "transport/ucx/ucx_wire.hpp"

#include <random>

namespace kvferry::testing {

wire_maker plain_tcp(io_loop& loop, incarnation self) {
    return [&loop, self] {
        tcp_options how;
        how.self = self;
        how.listen = "127.0.0.1";
        return make_tcp_wire(loop, how);
    };
}

wire_maker plain_ucx(io_loop& loop, incarnation) {
    return [&loop] { return make_ucx_wire(loop, {.puts = put_method::messages}); };
}

wire_maker plain_shm(io_loop& loop, incarnation) {
    return [&loop] { return make_shm_wire(loop, {}); };
}

/// Bits flip where they arrive.
template <wire_maker (*make)(io_loop&, incarnation)>
struct flipping_kit : fabric_loops {
    std::shared_ptr<flip_order> order = std::make_shared<flip_order>();

    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto wire = make(loop(number), self);
        auto made =
            spawn_fabric(system(), loop(number), {.self = self, .default_sink = sink, .bounds = {}},
                         number == 1 ? flipping(std::move(wire), order) : wire);
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

using flipping_tcp = flipping_kit<&plain_tcp>;
using flipping_ucx = flipping_kit<&plain_ucx>;
using flipping_shm = flipping_kit<&plain_shm>;

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::flipping_tcp);
TYPE_TO_STRING(kvferry::testing::flipping_ucx);
TYPE_TO_STRING(kvferry::testing::flipping_shm);

using namespace kvferry;
using namespace kvferry::testing;

namespace {

const scattered_put shapes[] = {{1, 1, 1},     {3, 5, 100},   {64, 8, 72},
                                {16, 8, 4096}, {2, 2, 70001}, {1, 1, 3u << 20}};

template <class Pair>
transfer_done put(Pair& pair, endpoint_id over, copy_job job, bool sums, byte_buffer report = {}) {
    start_put asked{transfer_id{++pair.last_transfer}, over, std::move(job),
                    pair.probe.completions()};
    asked.sums = sums;
    asked.report = std::move(report);
    pair.probe.tell(pair.writer, std::move(asked));
    return pair.ended();
}

/// Flips many bits, one in each put.
template <class Pair>
void check_flips(Pair& pair, memory_region region, fabric_memory& source,
                 const scattered_put& shape) {
    auto over = pair.open({std::move(region)});
    const auto job = [&] { return shape.job(source.address(), pair.probe_base); };
    std::mt19937_64 random{shape.bytes};
    for (int round = 0; round < 12; ++round) {
        pair.kit.order->bit = static_cast<std::int64_t>(random() >> 1);
        const auto done = put(pair, over, job(), true, make_frame(pair.writer_id, 3));
        REQUIRE(pair.kit.order->bit == -1);
        CHECK(done.result == agent_result::failed);
        CHECK(code_of(done.error) == errc::digest_mismatch);
        REQUIRE(done.damaged);
        const auto flipped = pair.kit.order->address.load();
        CHECK(done.damaged->address <= flipped);
        CHECK(flipped < done.damaged->address + done.damaged->bytes);
        CHECK(done.damaged->bytes <= summed_chunk_bytes);
    }
    CHECK(pair.arrivals.template waiting<frame_arrived>() == 0); // no report of success came
    const auto intact = put(pair, over, job(), true);
    CHECK_MESSAGE(intact.result == agent_result::success, describe(intact.error));
    CHECK(intact.bytes == shape.source_bytes());
    REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false}));
}

template <class Kit>
struct flipping_pair : staged_pair<Kit> {
    std::uint64_t probe_base = 0;
};

} // namespace

TEST_CASE_TEMPLATE("flipped bits: each one is found, and the bytes around it are named", Kit,
                   flipping_tcp, flipping_ucx, flipping_shm) {
    for (const auto& shape : shapes) {
        CAPTURE(shape.bytes);
        flipping_pair<Kit> pair;
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee);
        source.number(5);
        pair.probe_base = target.address();
        check_flips(pair, pair.share(target), source, shape);
        std::vector<std::byte> expected(shape.target_bytes(), std::byte{0xee});
        shape.expect(source, expected);
        CHECK(std::memcmp(target.data(), expected.data(), expected.size()) == 0);
    }
}

TEST_CASE_TEMPLATE("flipped bits: each one is found before it reaches memory on a device", Kit,
                   flipping_tcp, flipping_ucx, flipping_shm) {
    for (const auto& shape : shapes) {
        CAPTURE(shape.bytes);
        flipping_pair<Kit> pair;
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee);
        source.number(5);
        pair.probe_base = target.address();
        check_flips(pair, pair.share_on_device(target), source, shape);
        CHECK(holds(target, source, shape));
    }
}

TEST_CASE_TEMPLATE("flipped bits: a put without sums succeeds with the wrong byte", Kit,
                   flipping_tcp, flipping_ucx, flipping_shm) {
    const scattered_put shape{16, 8, 4096};
    flipping_pair<Kit> pair;
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee);
    source.number(5);
    auto over = pair.open({pair.share(target)});
    pair.kit.order->bit = 12345;
    CHECK(put(pair, over, shape.job(source.address(), target.address()), false).result
          == agent_result::success);
    CHECK_FALSE(holds(target, source, shape));
}
