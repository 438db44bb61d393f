// SPDX-License-Identifier: Apache-2.0
// The tcp wire keeps the fabric's promises while other threads read into pages and write out of
// them: nobody gets memory back before they are done.
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_ends_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/tcp/spawn_tcp.hpp"
#include "transport/loop/held_call.hpp"
#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>

namespace kvferry::testing {

struct tcp_kit_of_threads : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        auto made = spawn_tcp(system(), loop(number),
                              {.self = self, .default_sink = sink, .bounds = {}}, {.threads = 3});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::tcp_kit_of_threads);
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_of_threads)
KVFERRY_FABRIC_STAGING_CONFORMANCE(tcp_kit_of_threads)
KVFERRY_FABRIC_ENDS_CONFORMANCE(tcp_kit_of_threads)

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// 1 MiB each: pieces that the kernel gathers and scatters, and some that a thread of ours does.
constexpr scattered_put shapes[] = {{4, 64, 4096}, {16, 256, 256}};
constexpr int puts_max = 16;

/// Returns while a thread waits at that place, with memory that it will use. One is asked only when
/// several sockets have something; so this puts until that happens, and says how many puts it took.
template <class Put>
int await(const held_call& hold, Put put) {
    const auto until = clock::now() + fabric_patience;
    int puts = 0;
    for (; !hold.has_somebody() && clock::now() < until; std::this_thread::yield())
        for (; puts < puts_max && !hold.has_somebody(); ++puts)
            put(puts);
    REQUIRE(hold.has_somebody());
    return puts;
}

} // namespace

TEST_CASE("tcp wire: whoever shuts out an attempt, a region, a writer or everybody while another "
          "thread reads into pages is answered when that has ended, and no byte follows (H54)") {
    for (int test = 0; test < 8; ++test) {
        const auto how = test % 4;
        const auto& shape = shapes[test / 4];
        CAPTURE(how);
        CAPTURE(shape.bytes);
        fabric_memory source(shape.source_bytes(), 1), target(puts_max * shape.target_bytes(), 0);
        fabric_pair<tcp_kit_of_threads> pair;
        region_id region;
        auto over = pair.open({pair.share(target, &region, true)});
        pair.probe.tell(pair.target, allow_writes{attempt{5}});
        std::optional<held_call> hold{"bulk read"};
        const auto puts = await(*hold, [&](int put) {
            pair.put(over,
                     shape.job(source.address(), target.address() + put * shape.target_bytes()),
                     {5});
        });
        caf::scoped_actor self{pair.kit.system()};
        const auto ask = [&](const auto& message) {
            return self->request(pair.target, fabric_patience, message);
        };
        auto shut_out = how == 0   ? ask(forbid_writes{attempt{5}})
                        : how == 1 ? ask(unregister_region{region})
                        : how == 2 ? ask(drain_fabric{pair.writer_id})
                                   : ask(forbid_all_writes{});
        pair.probe.settle(pair.target); // it has been heard
        CHECK(self->mailbox().empty());
        hold.reset();
        bool answered = false;
        shut_out.receive([&] { answered = true; },
                         [](const caf::error& error) { FAIL(describe(error)); });
        CHECK(answered);
        std::memset(target.data(), 7, target.size()); // it has another owner now
        for (int ended = 0; ended < puts; ++ended)
            (void)pair.ended(); // of which the first ones may have arrived before
        CHECK(std::count(target.data(), target.data() + target.size(), std::byte{7})
              == static_cast<std::ptrdiff_t>(target.size()));
    }
}

TEST_CASE("tcp wire: who shuts out others than those whose bytes another thread reads does not "
          "wait for it") {
    const auto& shape = shapes[0];
    fabric_memory source(shape.source_bytes(), 1), target(puts_max * shape.target_bytes(), 0),
        other(4096);
    fabric_pair<tcp_kit_of_threads> pair;
    region_id of_other;
    (void)pair.share(other, &of_other);
    auto over = pair.open({pair.share(target, nullptr, true)});
    pair.probe.tell(pair.target, allow_writes{attempt{5}});
    std::optional<held_call> hold{"bulk read"};
    const auto puts = await(*hold, [&](int put) {
        pair.put(over, shape.job(source.address(), target.address() + put * shape.target_bytes()),
                 {5});
    });
    CHECK_FALSE(pair.probe.ask(pair.target, forbid_writes{attempt{6}}));
    CHECK_FALSE(pair.probe.ask(pair.target, drain_fabric{incarnation{999}}));
    CHECK_FALSE(pair.probe.ask(pair.target, unregister_region{of_other}));
    hold.reset();
    for (int ended = 0; ended < puts; ++ended)
        CHECK(pair.ended().result == agent_result::success);
}

TEST_CASE("tcp wire: a put is not over, and its link not closed, while another thread reads its "
          "source") {
    for (const auto& shape : shapes) {
        CAPTURE(shape.bytes);
        fabric_memory source(shape.source_bytes(), 1), target(puts_max * shape.target_bytes(), 0);
        fabric_pair<tcp_kit_of_threads> pair;
        auto over = pair.open({pair.share(target)});
        std::optional<held_call> hold{"bulk write"};
        const auto puts = await(*hold, [&](int put) {
            pair.put(over,
                     shape.job(source.address(), target.address() + put * shape.target_bytes()));
        });
        caf::scoped_actor self{pair.kit.system()};
        auto closed = self->request(pair.writer, fabric_patience, close_endpoint{over, true});
        pair.probe.settle(pair.writer);
        CHECK(self->mailbox().empty());
        const auto ended = pair.probe.waiting<transfer_done>();
        CHECK(ended < puts);
        hold.reset();
        bool answered = false;
        closed.receive([&] { answered = true; },
                       [](const caf::error& error) { FAIL(describe(error)); });
        CHECK(answered);
        CHECK(pair.probe.doubts(puts - ended) > 0);
        CHECK(pair.probe.next<endpoint_failed>().endpoint == over);
        pair.check_nothing_more();
    }
}

TEST_CASE(
    "tcp wire: several puts at once arrive byte for byte, whoever moves their bytes: pieces of "
    "each length, and some in one message") {
    for (std::uint64_t bytes : {100u, 256u, 1500u, 1536u, 3000u, 70000u}) {
        CAPTURE(bytes);
        const scattered_put shape{8, static_cast<std::uint32_t>((512 << 10) / bytes / 8 + 1),
                                  bytes};
        fabric_memory source(shape.source_bytes()), target(puts_max * shape.target_bytes(), 0xee);
        source.number(static_cast<std::uint32_t>(bytes));
        fabric_pair<tcp_kit_of_threads> pair;
        auto over = pair.open({pair.share(target)});
        for (int put = 0; put < puts_max; ++put)
            pair.put(over,
                     shape.job(source.address(), target.address() + put * shape.target_bytes()));
        for (int put = 0; put < puts_max; ++put)
            CHECK(pair.ended().result == agent_result::success);
        std::vector<std::byte> expected(shape.target_bytes(), std::byte{0xee});
        shape.expect(source, expected);
        for (int put = 0; put < puts_max; ++put)
            CHECK(std::memcmp(target.data() + put * shape.target_bytes(), expected.data(),
                              expected.size())
                  == 0);
    }
}

TEST_CASE("tcp wire: where no thread can be made the loop moves all bytes itself") {
    const auto& shape = shapes[0];
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes());
    source.number(3);
    fabric_pair<tcp_kit_of_threads> pair;
    auto over = pair.open({pair.share(target)});
    failing_call failure{"thread", EAGAIN};
    for (int put = 0; put < puts_max; ++put)
        pair.put(over, shape.job(source.address(), target.address()));
    for (int put = 0; put < puts_max; ++put)
        CHECK(pair.ended().result == agent_result::success);
    std::vector<std::byte> expected(target.size());
    shape.expect(source, expected);
    CHECK(std::memcmp(target.data(), expected.data(), expected.size()) == 0);
}
