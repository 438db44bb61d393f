// SPDX-License-Identifier: Apache-2.0
// staged_put between a device and a fabric, both played by the test: order, bounds, and one end for
// every transfer, whatever fails.
#include "actors/context/staged_put.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/host_link.hpp"
#include "tests/support/random_plan.hpp"
#include "tests/support/recording_stub.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/loop/resident.hpp"

#include <doctest/doctest.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint64_t piece_bytes = 4096;

/// Three places of 4 KiB. Copies and puts end when the test says so.
struct staging_bench {
    virtual_system vs;
    stub<device_actor> device{vs};
    stub<fabric_actor> fabric{vs};
    stub<completion_actor> session{vs};
    alignas(16) std::byte memory[3 * piece_bytes];
    staged_put_actor staged;

    staging_bench() {
        limits bounds;
        bounds.staging_piece_bytes_max = piece_bytes;
        staged = vs.track(spawn_at<staged_put_actor, staged_put_state>(
            vs.system(), placement{},
            staged_put_state::dependencies{
                bounds, 0, device.handle(), fabric.handle(),
                host_region{memory, sizeof memory, memory_kind::host_shared, 9}}));
    }

    void start(transfer_id id, copy_job job, device_events events = {}) {
        vs.tell_and_run(staged,
                        start_put{id, endpoint_id{7}, std::move(job), session.handle(), events});
    }
    std::vector<start_copy> gathers() const { return device.received<start_copy>(); }
    std::vector<start_put> puts() const { return fabric.received<start_put>(); }
    std::vector<transfer_done> ends() const { return session.received<transfer_done>(); }

    void end(transfer_id id, agent_result result = agent_result::success) {
        transfer_done done;
        done.id = id;
        done.result = result;
        if (result != agent_result::success)
            done.error = make_error(errc::link_lost, "the test says so");
        vs.tell_and_run(staged, done);
    }

    /// Executes and ends everything that is asked for, each thing once, until nothing new comes.
    void run_all() {
        for (std::size_t copied = 0, put = 0;;) {
            if (copied < gathers().size()) {
                const auto now = gathers()[copied++];
                copy_now(now.job);
                end(now.id);
            } else if (put < puts().size()) {
                const auto now = puts()[put++];
                copy_now(now.job);
                end(now.id);
            } else {
                return;
            }
        }
    }
};

} // namespace

TEST_CASE("staged_put: every byte of random plans lands, through three places") {
    for (std::uint32_t seed = 1; seed <= 30; ++seed) {
        CAPTURE(seed);
        staging_bench test;
        const auto sample = random_plans{seed}.next();
        auto source = random_bytes(sample.source_bytes, seed);
        auto target = random_bytes(sample.target_bytes, seed + 1);
        const auto expected = sample.applied(source, target);
        test.start({1}, sample.job(reinterpret_cast<std::uint64_t>(source.data()),
                                   reinterpret_cast<std::uint64_t>(target.data())));
        test.run_all();
        REQUIRE(test.ends().size() == 1);
        CHECK(test.ends()[0].id == transfer_id{1});
        CHECK(test.ends()[0].result == agent_result::success);
        CHECK(test.ends()[0].bytes == sample.plan->bytes);
        CHECK((target == expected));
        CHECK(test.device.received<pin_host_region>().size() == 1);
    }
}

TEST_CASE("staged_put: no more is gathered than there are places, and transfers take turns") {
    staging_bench test;
    const auto sample = shuffled_fragments(4, piece_bytes);
    test.start({1}, sample.job(1 << 20, 1 << 21));
    CHECK(test.gathers().size() == 3);
    test.start({2}, sample.job(1 << 20, 1 << 21));
    CHECK(test.gathers().size() == 3);
    CHECK(test.puts().empty());
    test.end(test.gathers()[0].id);
    CHECK(test.gathers().size() == 3); // a place is free only when its put has ended
    REQUIRE(test.puts().size() == 1);
    CHECK(test.puts()[0].endpoint == endpoint_id{7});
    test.end(test.puts()[0].id);
    REQUIRE(test.gathers().size() == 4);
    test.end(test.gathers()[1].id);
    test.end(test.puts()[1].id);
    REQUIRE(test.gathers().size() == 5);
    const auto slot = [&](std::size_t number) {
        return test.gathers()[number].job.plan->parts[0].slots[0].source;
    };
    CHECK(slot(3) == sample.plan->parts[0].slots[0].source); // the other transfer's first piece
    CHECK(slot(4) == sample.plan->parts[0].slots[3].source);
}

TEST_CASE("staged_put: the next free place is the urgent transfer's, and its pieces say whose they "
          "are") {
    staging_bench test;
    const auto sample = shuffled_fragments(40, piece_bytes);
    const auto start = [&](std::uint64_t id, flow of) {
        start_put put{transfer_id{id}, endpoint_id{7}, sample.job(1 << 20, 1 << 21),
                      test.session.handle()};
        put.of = of;
        test.vs.tell_and_run(test.staged, std::move(put));
    };
    const flow late{.urgency = priority::low, .peer = 1};
    const flow usual{.urgency = priority::normal, .peer = 1};
    const flow urgent{.urgency = priority::high, .peer = 2, .session = 5};
    start(1, late);
    start(2, usual);
    start(3, urgent);
    for (std::size_t ended = 0; ended < 6; ++ended) {
        test.end(test.gathers()[ended].id);
        test.end(test.puts()[ended].id);
    }
    std::vector<flow> order;
    for (const auto& gathered : test.gathers())
        order.push_back(gathered.of);
    CHECK((order
           == std::vector<flow>{late, late, late, urgent, usual, urgent, urgent, urgent, urgent}));
    CHECK(test.puts()[3].of == urgent);
}

TEST_CASE("staged_put: a transfer that fails ends when what it has under way has ended; others go "
          "on") {
    for (const bool in_put : {false, true}) {
        CAPTURE(in_put);
        staging_bench test;
        const auto sample = shuffled_fragments(4, piece_bytes);
        test.start({1}, sample.job(1 << 20, 1 << 21));
        const auto failing = test.gathers()[0].id;
        if (in_put)
            test.end(failing);
        test.end(failing, agent_result::failed);
        CHECK(test.ends().empty());
        CHECK(test.device.received<cancel_transfer>().size() == 2);
        test.end(test.gathers()[1].id); // gathered before the cancel came, but no longer put
        CHECK(test.puts().size() == (in_put ? 1 : 0));
        test.end(test.gathers()[2].id, agent_result::failed);
        REQUIRE(test.ends().size() == 1);
        CHECK(test.ends()[0].result == agent_result::failed);
        CHECK(code_of(test.ends()[0].error) == errc::link_lost);
        const auto before = test.gathers().size();
        test.start({2}, sample.job(1 << 20, 1 << 21));
        CHECK(test.gathers().size() == before + 3);
    }
}

TEST_CASE("staged_put: a cancel reaches what is gathered and what is put, and ends the transfer "
          "once") {
    staging_bench test;
    test.start({1}, shuffled_fragments(4, piece_bytes).job(1 << 20, 1 << 21));
    test.end(test.gathers()[0].id);
    test.vs.tell_and_run(test.staged, cancel_transfer{{1}});
    test.vs.tell_and_run(test.staged, cancel_transfer{{1}});
    CHECK(test.fabric.received<cancel_transfer>().size() == 1);
    CHECK(test.device.received<cancel_transfer>().size() == 2);
    CHECK(test.ends().empty());
    test.end(test.puts()[0].id, agent_result::failed);
    test.end(test.gathers()[1].id, agent_result::failed);
    test.end(test.gathers()[2].id, agent_result::failed);
    REQUIRE(test.ends().size() == 1);
    CHECK(test.ends()[0].result == agent_result::failed);
    CHECK(code_of(test.ends()[0].error) == errc::cancelled);
}

TEST_CASE("staged_put: a put in doubt makes the transfer in doubt, and its place serves others: "
          "lost peers do not use up the staging memory") {
    staging_bench test;
    for (std::uint64_t id = 1; id <= 7; ++id) {
        test.start({id}, shuffled_fragments(1, piece_bytes).job(1 << 20, 1 << 21));
        REQUIRE(test.gathers().size() == id);
        test.end(test.gathers().back().id);
        test.end(test.puts().back().id, agent_result::in_doubt);
        REQUIRE(test.ends().size() == id);
        CHECK(test.ends().back().result == agent_result::in_doubt);
    }
}

TEST_CASE("staged_put: a gather in doubt makes the transfer in doubt and its place unusable; "
          "without places transfers are refused by name") {
    staging_bench test;
    for (std::uint64_t id = 1; id <= 3; ++id) {
        test.start({id}, shuffled_fragments(1, piece_bytes).job(1 << 20, 1 << 21));
        test.end(test.gathers().back().id, agent_result::in_doubt);
        REQUIRE(test.ends().size() == id);
        CHECK(test.ends().back().result == agent_result::in_doubt);
    }
    test.start({4}, shuffled_fragments(1, piece_bytes).job(1 << 20, 1 << 21));
    REQUIRE(test.ends().size() == 4);
    CHECK(test.ends().back().result == agent_result::failed);
    CHECK(text_of(test.ends().back().error).find("staging memory of cuda:0") != std::string::npos);
}

TEST_CASE("staged_put: pieces of two devices have numbers of their own: they share a fabric") {
    staging_bench test;
    const auto first = test.staged;
    limits bounds;
    bounds.staging_piece_bytes_max = piece_bytes;
    alignas(16) std::byte memory[piece_bytes];
    test.staged = test.vs.track(spawn_at<staged_put_actor, staged_put_state>(
        test.vs.system(), placement{},
        staged_put_state::dependencies{
            bounds, 1, test.device.handle(), test.fabric.handle(),
            host_region{memory, sizeof memory, memory_kind::host_private}}));
    const auto sample = shuffled_fragments(1, 64);
    test.start({1}, sample.job(1 << 20, 1 << 21));
    test.staged = first;
    test.start({2}, sample.job(1 << 20, 1 << 21));
    REQUIRE(test.gathers().size() == 2);
    CHECK(test.gathers()[0].id != test.gathers()[1].id);
    for (const auto& gather : test.gathers()) {
        CHECK((gather.id.value >> 63) == 1);     // sessions use numbers without this bit
        CHECK((gather.id.value >> 62 & 1) == 0); // this bit is set for scatters
    }
}

TEST_CASE("staged_put: says where its pieces lie when peers can map that memory") {
    staging_bench test;
    test.start({1}, shuffled_fragments(1, 64).job(1 << 20, 1 << 21));
    test.end(test.gathers().at(0).id);
    const auto source = test.puts().at(0).job.source;
    REQUIRE(source);
    CHECK(source->region == staging_region(0));
    CHECK(source->base_address == reinterpret_cast<std::uint64_t>(test.memory));
    CHECK(source->bytes == sizeof test.memory);
}

TEST_CASE("staged_put: no piece is gathered before the host's event, and the last one records the "
          "other; a transfer that waits takes one place") {
    staging_bench test;
    const auto sample = shuffled_fragments(4, piece_bytes);
    int before = 0, after = 0;
    test.start({1}, sample.job(1 << 20, 1 << 21), {&before, &after});
    REQUIRE(test.gathers().size() == 1);
    CHECK(test.gathers()[0].events.wait_for == &before);
    test.start({2}, shuffled_fragments(1, 64).job(1 << 20, 1 << 21));
    REQUIRE(test.gathers().size() == 2); // other transfers go on
    test.end(test.gathers()[1].id);
    test.end(test.gathers()[1].id);
    REQUIRE(test.ends().size() == 1);
    CHECK(test.gathers().size() == 2);
    test.end(test.gathers()[0].id); // the event has happened
    for (std::size_t number = 0; test.ends().size() < 2; ++number) {
        REQUIRE(number < test.gathers().size());
        const auto now = test.gathers()[number];
        if (number >= 2)
            test.end(now.id); // gathered
        if (number != 1)
            test.end(now.id); // put
    }
    REQUIRE(test.gathers().size() == 5);
    for (std::size_t number = 2; number < 5; ++number) {
        CHECK(test.gathers()[number].events.wait_for == nullptr);
        CHECK(test.gathers()[number].events.completed == (number == 4 ? &after : nullptr));
    }
    CHECK(test.ends()[1].result == agent_result::success);
}

TEST_CASE("staged_put: memory that cannot be pinned fails transfers with the reason") {
    staging_bench test;
    test.device.answer<pin_host_region>([](const pin_host_region&) -> caf::result<void> {
        return make_error(errc::cuda_failed, "cudaHostRegister: out of memory");
    });
    for (std::uint64_t id = 1; id <= 2; ++id) {
        test.start({id}, shuffled_fragments(1, 64).job(1 << 20, 1 << 21));
        REQUIRE(test.ends().size() == id);
        CHECK(test.ends().back().result == agent_result::failed);
        CHECK(text_of(test.ends().back().error).find("cudaHostRegister") != std::string::npos);
    }
}
