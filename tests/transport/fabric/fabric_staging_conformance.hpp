// SPDX-License-Identifier: Apache-2.0
// What every fabric promises about puts into memory on a device, for the kits of
// fabric_conformance.hpp: KVFERRY_FABRIC_STAGING_CONFORMANCE(kit).
#pragma once

#include "messages/local/host_link.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_device.hpp"

namespace kvferry::testing {

/// Two ranks of one kit; rank 1 has memory on a device with two chunks of staging memory.
template <class Kit>
struct staged_pair : fabric_pair<Kit> {
    static constexpr std::size_t chunks = 2;
    static inline const std::uint64_t chunk_bytes = limits{}.staging_piece_bytes_max;

    fabric_device device{this->kit.system(), chunks};

    memory_region share_on_device(fabric_memory& memory, region_id* id = nullptr) {
        register_region message{memory.data(), memory.size(), memory_kind::cuda};
        message.copier = device.actor();
        message.staging = device.staging();
        auto registered = this->probe.template ask<region_registered>(this->target, message);
        REQUIRE_MESSAGE(registered, describe(registered.error()));
        CHECK_FALSE(registered->access_key.empty());
        if (id)
            *id = registered->region;
        return {memory.address(), memory.size(), memory_kind::cuda, registered->access_key, {}};
    }

    /// Returns after both fabrics and the device have handled everything sent before.
    void settle_all() {
        for (int round = 0; round < 3; ++round) {
            this->probe.settle(this->writer);
            this->probe.settle(this->target);
        }
    }
};

/// A put of `count` whole chunks, one stretch each.
inline scattered_put whole_chunks(std::uint32_t count) {
    return {count, 1, limits{}.staging_piece_bytes_max};
}

inline bool holds(fabric_memory& target, fabric_memory& source, const scattered_put& shape,
                  std::size_t margin = 0) {
    std::vector<std::byte> expected(shape.target_bytes(), std::byte{0xee});
    shape.expect(source, expected);
    return std::memcmp(target.data() + margin, expected.data(), expected.size()) == 0;
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a put into memory on a device lands byte for byte, through two chunks", Kit,
    staging_put) {
    staged_pair<Kit> pair;
    for (const auto& shape : {scattered_put{1, 1, 1}, scattered_put{3, 5, 100},
                              scattered_put{64, 16, 256}, scattered_put{8, 16, 4096},
                              scattered_put{2, 2, 3u << 20}, scattered_put{3, 1, 5000000}}) {
        CAPTURE(shape.bytes);
        constexpr std::size_t margin = 48;
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes() + 2 * margin, 0xee);
        source.number(5);
        auto over = pair.open({pair.share_on_device(target)});
        pair.put(over, shape.job(source.address(), target.address() + margin));
        auto done = pair.ended();
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
        CHECK(done.bytes == shape.source_bytes());
        CHECK(holds(target, source, shape, margin));
        for (std::size_t index = 0; index < margin; ++index) {
            CHECK(target[index] == std::byte{0xee});
            CHECK(target[target.size() - 1 - index] == std::byte{0xee});
        }
        REQUIRE_FALSE(pair.probe.ask(pair.writer, close_endpoint{over, false}));
    }
    CHECK(pair.device.pins() == 1); // one pin for all regions of the device
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: one put writes host memory and memory on a device", Kit,
                          staging_mixed) {
    staged_pair<Kit> pair;
    const scattered_put shape{16, 8, 4096};
    fabric_memory source(shape.source_bytes()), host(shape.target_bytes(), 0xee),
        first(shape.target_bytes(), 0xee), second(shape.target_bytes(), 0xee);
    source.number(8);
    auto over =
        pair.open({pair.share(host), pair.share_on_device(first), pair.share_on_device(second)});
    auto job = shape.job(source.address(), first.address(), 1);
    auto plan = std::make_shared<copy_plan>(*job.plan);
    job.target_pools.push_back({host.address(), job.target_pools[0].slot_stride_bytes, 0});
    job.target_pools.push_back({second.address(), job.target_pools[0].slot_stride_bytes, 2});
    for (std::uint32_t pool : {1u, 2u, 0u}) { // the first region comes twice
        plan->parts.push_back(plan->parts[0]);
        plan->parts.back().target_pool = pool;
    }
    plan->bytes *= 4;
    job.plan = plan;
    pair.put(over, job);
    auto done = pair.ended();
    CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    CHECK(done.bytes == 4 * shape.source_bytes());
    for (auto* target : {&host, &first, &second})
        CHECK(holds(*target, source, shape));
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a put is over when the device has scattered its last chunk, not before", Kit,
    staging_end) {
    staged_pair<Kit> pair;
    const scattered_put shape{4, 4, 1000};
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee);
    source.number(2);
    auto over = pair.open({pair.share_on_device(target)});
    pair.device.hold();
    pair.put(over, shape.job(source.address(), target.address()));
    pair.device.await(1);
    pair.settle_all();
    CHECK(pair.probe.template waiting<transfer_done>() == 0);
    CHECK(std::count(target.data(), target.data() + target.size(), std::byte{0xee})
          == std::ptrdiff_t(target.size()));
    pair.device.release();
    auto done = pair.ended();
    CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    CHECK(holds(target, source, shape));
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: no more is taken in than there are chunks; puts wait for their turn, and all end", Kit,
    staging_turns) {
    staged_pair<Kit> pair;
    const auto shape = whole_chunks(3);
    fabric_memory source(shape.source_bytes()), first(shape.target_bytes(), 0xee),
        second(shape.target_bytes(), 0xee);
    source.number(3);
    auto over = pair.open({pair.share_on_device(first), pair.share_on_device(second)});
    pair.device.hold();
    pair.put(over, shape.job(source.address(), first.address(), 0));
    pair.put(over, shape.job(source.address(), second.address(), 1));
    for (int ended = 0; ended < 6; ++ended) {
        pair.device.await(std::min(2, 6 - ended));
        pair.settle_all();
        CHECK(pair.device.waiting() <= staged_pair<Kit>::chunks);
        pair.device.end_one();
    }
    for (int put = 0; put < 2; ++put) {
        auto done = pair.ended();
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    }
    CHECK(holds(first, source, shape));
    CHECK(holds(second, source, shape));
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: a cancelled put ends when the device has let go of it; its chunks serve others", Kit,
    staging_cancel) {
    staged_pair<Kit> pair;
    const auto shape = whole_chunks(5);
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    auto over = pair.open({pair.share_on_device(target)});
    pair.device.hold();
    auto running = pair.put(over, shape.job(source.address(), target.address()));
    pair.device.await(2);
    auto waiting = pair.put(over, shape.job(source.address(), target.address()));
    pair.settle_all();
    for (auto id : {waiting, running, running})
        pair.probe.tell(pair.writer, cancel_transfer{id});
    auto done = pair.ended(); // no byte of it had been sent
    CHECK(done.id == waiting);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cancelled);
    pair.settle_all();
    CHECK(pair.probe.template waiting<transfer_done>() == 0); // the device may still write
    pair.device.release();
    done = pair.ended();
    CHECK(done.id == running);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cancelled);
    const std::vector<std::byte> then(target.data(), target.data() + target.size());
    fabric_memory other(shape.target_bytes(), 0xee);
    auto again = pair.open({pair.share_on_device(other)});
    pair.put(again, shape.job(source.address(), other.address()));
    CHECK(pair.ended().result == agent_result::success);
    CHECK(holds(other, source, shape));
    CHECK(std::memcmp(target.data(), then.data(), then.size()) == 0);
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a device that fails, refuses its staging memory or leaves it in "
                          "doubt ends the put by name",
                          Kit, staging_failure) {
    const scattered_put shape{2, 2, 4096};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    {
        staged_pair<Kit> pair;
        auto over = pair.open({pair.share_on_device(target)});
        pair.device.hold();
        for (auto result : {agent_result::failed, agent_result::in_doubt}) {
            pair.put(over, shape.job(source.address(), target.address()));
            pair.device.end_one(result);
            auto done = pair.ended();
            CHECK(done.result == result);
            CHECK_MESSAGE(text_of(done.error).find("the test's device says so")
                              != std::string::npos,
                          describe(done.error));
        }
        // One chunk is in doubt. The other still serves, until it is in doubt as well.
        pair.put(over, shape.job(source.address(), target.address()));
        pair.device.end_one();
        CHECK(pair.ended().result == agent_result::success);
        pair.put(over, shape.job(source.address(), target.address()));
        pair.device.end_one(agent_result::in_doubt);
        CHECK(pair.ended().result == agent_result::in_doubt);
        pair.put(over, shape.job(source.address(), target.address()));
        auto refused = pair.ended();
        CHECK(refused.result == agent_result::failed);
        CHECK_MESSAGE(text_of(refused.error).find("in doubt") != std::string::npos,
                      describe(refused.error));
    }
    staged_pair<Kit> pair;
    pair.device.refuse_pins();
    auto over = pair.open({pair.share_on_device(target)});
    for (int time = 0; time < 2; ++time) {
        pair.put(over, shape.job(source.address(), target.address()));
        auto refused = pair.ended();
        CHECK(refused.result == agent_result::failed);
        CHECK_MESSAGE(text_of(refused.error).find("cudaHostRegister") != std::string::npos,
                      describe(refused.error));
    }
    pair.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: after the writer's death a drain waits for the device, and the next writer is served",
    Kit, staging_death) {
    staged_pair<Kit> pair;
    const auto shape = whole_chunks(4);
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    auto region = pair.share_on_device(target);
    auto over = pair.open({region});
    pair.device.hold();
    pair.put(over, shape.job(source.address(), target.address()));
    pair.device.await(2);
    pair.kit.kill(0);
    pair.kit.await_death(0);
    caf::scoped_actor self{pair.kit.system()};
    auto drained = self->request(pair.target, fabric_patience, drain_fabric{pair.writer_id});
    pair.probe.settle(pair.target);
    bool answered = false;
    self->receive([&](const caf::down_msg&) { answered = true; },
                  caf::after(std::chrono::seconds{0}) >> [] {}); // there must be no message
    CHECK(self->mailbox().empty());
    CHECK_FALSE(answered);
    pair.device.release();
    drained.receive([&] { answered = true; },
                    [](const caf::error& error) { FAIL(describe(error)); });
    CHECK(answered);
    const std::vector<std::byte> then(target.data(), target.data() + target.size());

    fabric_memory other(shape.target_bytes(), 0xee);
    auto fresh = pair.share_on_device(other);
    pair.writer = pair.kit.spawn(0, incarnation{303}, pair.probe.sink());
    auto again = pair.open({fresh});
    pair.put(again, shape.job(source.address(), other.address()));
    for (bool mine = false; !mine;) { // the dead fabric's put may be answered first
        auto done = pair.ended();
        mine = done.id.value == pair.last_transfer;
        if (mine)
            CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    }
    CHECK(holds(other, source, shape));
    CHECK(std::memcmp(target.data(), then.data(), then.size()) == 0);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a region on a device is taken back when no scatter writes into "
                          "it any more; its puts end by name",
                          Kit, staging_unregister) {
    staged_pair<Kit> pair;
    const auto shape = whole_chunks(4);
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    region_id id;
    auto over = pair.open({pair.share_on_device(target, &id)});
    pair.device.hold();
    pair.put(over, shape.job(source.address(), target.address()));
    pair.device.await(2);
    caf::scoped_actor self{pair.kit.system()};
    auto taken_back = self->request(pair.target, fabric_patience, unregister_region{id});
    pair.probe.settle(pair.target);
    CHECK(self->mailbox().empty());
    pair.device.release();
    taken_back.receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    const std::vector<std::byte> then(target.data(), target.data() + target.size());
    auto done = pair.ended();
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::transfer_failed);
    pair.put(over, shape.job(source.address(), target.address()));
    CHECK(pair.ended().result == agent_result::failed);
    CHECK(std::memcmp(target.data(), then.data(), then.size()) == 0);
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a stop of either side ends puts into memory on a device", Kit,
                          staging_stop) {
    for (bool of_writer : {true, false}) {
        CAPTURE(of_writer);
        staged_pair<Kit> pair;
        const auto shape = whole_chunks(4);
        fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
        auto over = pair.open({pair.share_on_device(target)});
        pair.device.hold();
        pair.put(over, shape.job(source.address(), target.address()));
        pair.device.await(2);
        caf::scoped_actor self{pair.kit.system()};
        auto stopped =
            self->request(of_writer ? pair.writer : pair.target, fabric_patience, stop_io{});
        pair.device.release();
        auto done = pair.ended();
        // All bytes may have arrived before the target noticed the writer's stop.
        CHECK(done.result != (of_writer ? agent_result::in_doubt : agent_result::success));
        stopped.receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    }
}

/// The target maps the writer's memory (here both are in one process), and the put offers it.
template <class Kit>
struct sharing_pair : staged_pair<Kit> {
    static constexpr std::uint32_t shared_as = staging_region(0);

    void lend(fabric_memory& memory, std::uint64_t bytes) {
        auto back = this->probe.template ask<endpoint_opened>(
            this->target,
            open_endpoint{
                this->writer_id, this->address_of(this->writer), {}, this->arrivals.sink()});
        REQUIRE_MESSAGE(back, describe(back.error()));
        this->probe.tell(
            this->target,
            peer_memory_mapped{back->endpoint, {{shared_as, memory.data(), bytes, nullptr}}});
        this->probe.settle(this->target);
    }
    static copy_job offering(copy_job job, fabric_memory& memory) {
        job.source = {shared_as, memory.address(), memory.size()};
        return job;
    }
    bool staging_untouched() {
        return std::all_of(this->device.staging().begin(), this->device.staging().end(),
                           [](std::byte x) { return x == std::byte{0}; });
    }
};

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: bytes that the target's device can read at the writer are scattered from there", Kit,
    staging_by_reference) {
    for (const auto& shape :
         {scattered_put{1, 1, 1}, scattered_put{3, 5, 100}, scattered_put{64, 64, 256},
          scattered_put{2, 2, 3u << 20}, scattered_put{3, 1, 5000000}}) {
        CAPTURE(shape.bytes);
        sharing_pair<Kit> pair;
        fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee),
            host(shape.target_bytes(), 0xee);
        source.number(6);
        auto over = pair.open({pair.share_on_device(target), pair.share(host)});
        pair.lend(source, source.size());
        // Goes to the device, then to host memory, then to the device again.
        auto job = pair.offering(shape.job(source.address(), host.address(), 1), source);
        auto plan = std::make_shared<copy_plan>(*job.plan);
        job.target_pools.push_back({target.address(), job.target_pools[0].slot_stride_bytes, 0});
        auto to = [&](std::uint32_t pool) {
            auto part = job.plan->parts[0];
            part.target_pool = pool;
            return part;
        };
        plan->parts = {to(1), to(0), to(1)};
        plan->bytes *= 3;
        job.plan = plan;
        pair.put(over, job);
        auto done = pair.ended();
        CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
        CHECK(done.bytes == 3 * shape.source_bytes());
        CHECK(holds(target, source, shape));
        CHECK(holds(host, source, shape));
        CHECK(pair.staging_untouched());
        CHECK(pair.device.mappings() == 1); // one mapping for all puts
        CHECK(pair.device.pins() == 0);
        pair.check_nothing_more();
    }
}

TEST_CASE_TEMPLATE_DEFINE("fabric: what the device does not map, or nobody has mapped, is sent",
                          Kit, staging_not_mapped) {
    const scattered_put shape{8, 8, 4096};
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes(), 0xee);
    source.number(4);
    for (bool lent : {false, true}) {
        CAPTURE(lent);
        sharing_pair<Kit> pair;
        auto over = pair.open({pair.share_on_device(target)});
        if (lent) {
            pair.device.refuse_mappings();
            pair.lend(source, source.size());
        }
        for (int time = 0; time < 2; ++time) {
            std::memset(target.data(), 0xee, target.size());
            pair.probe.settle(pair.target); // TSan: orders this before the device's writes
            pair.put(over, pair.offering(shape.job(source.address(), target.address()), source));
            auto done = pair.ended();
            CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
            CHECK(holds(target, source, shape));
        }
        CHECK(pair.device.mappings() == (lent ? 1 : 0));
        CHECK(pair.device.pins() == 1);
        pair.check_nothing_more();
    }
}

TEST_CASE_TEMPLATE_DEFINE("fabric: a put that refers beyond what is mapped writes nothing there, "
                          "and ends by name",
                          Kit, staging_refers_outside) {
    sharing_pair<Kit> pair;
    const scattered_put shape{1, 1, 4096};
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    auto over = pair.open({pair.share_on_device(target)});
    pair.lend(source, 4095);
    pair.put(over, pair.offering(shape.job(source.address(), target.address()), source));
    auto done = pair.ended();
    CHECK(done.result == agent_result::failed);
    CHECK_MESSAGE(text_of(done.error).find("outside the writer's shared memory")
                      != std::string::npos,
                  describe(done.error));
    CHECK(std::count(target.data(), target.data() + target.size(), std::byte{0xee})
          == std::ptrdiff_t(target.size()));
}

TEST_CASE_TEMPLATE_DEFINE(
    "fabric: neither a cancel nor the writer's death ends a put while a device reads its memory",
    Kit, staging_reader_outlives) {
    const auto shape = whole_chunks(2);
    fabric_memory source(shape.source_bytes(), 1), target(shape.target_bytes(), 0xee);
    sharing_pair<Kit> pair;
    auto over = pair.open({pair.share_on_device(target)});
    pair.lend(source, source.size());
    pair.device.hold();
    auto id = pair.put(over, pair.offering(shape.job(source.address(), target.address()), source));
    pair.device.await(1);
    pair.probe.tell(pair.writer, cancel_transfer{id});
    pair.settle_all();
    CHECK(pair.probe.template waiting<transfer_done>() == 0); // the device still reads
    pair.kit.kill(0);
    pair.kit.await_death(0);
    caf::scoped_actor self{pair.kit.system()};
    auto drained = self->request(pair.target, fabric_patience, drain_fabric{pair.writer_id});
    pair.probe.settle(pair.target);
    CHECK(self->mailbox().empty());
    pair.device.release();
    bool answered = false;
    drained.receive([&] { answered = true; },
                    [](const caf::error& error) { FAIL(describe(error)); });
    CHECK(answered);
}

} // namespace kvferry::testing

#define KVFERRY_FABRIC_STAGING_CONFORMANCE(kit)                                                    \
    namespace kvferry::testing {                                                                   \
    TEST_CASE_TEMPLATE_INVOKE(staging_put, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(staging_mixed, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(staging_end, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(staging_turns, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(staging_cancel, kit);                                                \
    TEST_CASE_TEMPLATE_INVOKE(staging_failure, kit);                                               \
    TEST_CASE_TEMPLATE_INVOKE(staging_death, kit);                                                 \
    TEST_CASE_TEMPLATE_INVOKE(staging_unregister, kit);                                            \
    TEST_CASE_TEMPLATE_INVOKE(staging_stop, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(staging_by_reference, kit);                                          \
    TEST_CASE_TEMPLATE_INVOKE(staging_not_mapped, kit);                                            \
    TEST_CASE_TEMPLATE_INVOKE(staging_refers_outside, kit);                                        \
    TEST_CASE_TEMPLATE_INVOKE(staging_reader_outlives, kit);                                       \
    }
