// SPDX-License-Identifier: Apache-2.0
// copy_io: byte-exact copies that take turns and end once each, whatever happens in between.
#include "tests/support/real_system.hpp"
#include "tests/support/recording_stub.hpp"
#include "tests/support/virtual_system.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/planner/plan/piece_digest.hpp"

#include <caf/scoped_actor.hpp>
#include <doctest/doctest.h>

#include <numeric>
#include <random>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

using memory = std::vector<std::byte>;

std::uint64_t address(const memory& x) {
    return reinterpret_cast<std::uint64_t>(x.data());
}

memory random_bytes(std::size_t bytes) {
    std::mt19937_64 source{bytes};
    memory result(bytes);
    for (auto& x : result)
        x = static_cast<std::byte>(source());
    return result;
}

/// One stretch from the beginning of one memory to that of the other.
copy_job plain(const memory& from, memory& to, std::uint64_t bytes) {
    auto layout =
        std::make_shared<copy_template>(copy_template{{{0, 0, bytes, 1, 0, 0}}, bytes, 1});
    auto plan = std::make_shared<copy_plan>(copy_plan{{{0, 0, layout, {{0, 0}}}}, bytes, 1});
    return {plan, {{address(from), 0, 0}}, {{address(to), 0, 0}}, {}};
}

/// Two pools, shuffled slots, strided runs of odd sizes.
struct scattered {
    memory from = random_bytes(std::size_t{64} * 4096 * 2);
    memory to = memory(from.size());
    memory wanted = memory(from.size());
    copy_job job;

    scattered() {
        auto layout = std::make_shared<copy_template>();
        layout->runs = {
            {0, 1000, 100, 7, 130, 111}, {1500, 0, 999, 1, 0, 0}, {2600, 2000, 1, 50, 3, 2}};
        layout->bytes = 700 + 999 + 50;
        layout->fragments = 58;
        auto plan = std::make_shared<copy_plan>();
        std::mt19937_64 source{7};
        for (std::uint32_t pool = 0; pool < 2; ++pool) {
            std::vector<std::uint32_t> targets(64);
            std::iota(targets.begin(), targets.end(), 0u);
            std::shuffle(targets.begin(), targets.end(), source);
            plan_part part{pool, 1 - pool, layout, {}};
            for (std::uint32_t slot = 0; slot < 64; ++slot)
                part.slots.push_back({slot, targets[slot]});
            plan->parts.push_back(part);
        }
        plan->bytes = 2 * 64 * layout->bytes;
        plan->fragments = 2 * 64 * layout->fragments;
        job.plan = plan;
        for (std::uint64_t pool = 0; pool < 2; ++pool) {
            job.source_pools.push_back({address(from) + pool * 64 * 4096, 4096, 0});
            job.target_pools.push_back({address(to) + pool * 64 * 4096, 4096, 0});
        }
        // Copied by hand, byte by byte.
        for (const auto& part : plan->parts)
            for (const auto& pair : part.slots)
                for (const auto& run : layout->runs)
                    for (std::uint64_t index = 0; index < run.count; ++index)
                        for (std::uint64_t byte = 0; byte < run.bytes; ++byte)
                            wanted[part.target_pool * 64 * 4096 + pair.target * 4096
                                   + run.target_offset_bytes + index * run.target_stride_bytes
                                   + byte] = from[part.source_pool * 64 * 4096 + pair.source * 4096
                                                  + run.source_offset_bytes
                                                  + index * run.source_stride_bytes + byte];
    }
};

struct scene {
    explicit scene(std::size_t piece_bytes = limits{}.copy_piece_bytes_max)
        : copier(vs.track(spawn_copy_io(vs.system(), {}, {[&] {
                                            limits bounds;
                                            bounds.copy_piece_bytes_max = piece_bytes;
                                            return bounds;
                                        }()}))),
          owner(vs) {}

    void start(std::uint64_t id, copy_job job) {
        caf::anon_send(copier, start_copy{transfer_id{id}, std::move(job), owner.handle()});
    }
    void cancel(std::uint64_t id) { caf::anon_send(copier, cancel_transfer{transfer_id{id}}); }
    std::vector<transfer_done> done() const { return owner.received<transfer_done>(); }

    virtual_system vs;
    copy_actor copier;
    stub<completion_actor> owner;
};

/// Counts the written bytes of a target; the sources contain no zero bytes.
std::size_t written(const memory& to) {
    return static_cast<std::size_t>(
        std::count_if(to.begin(), to.end(), [](auto x) { return x != std::byte{}; }));
}

} // namespace

TEST_CASE("copy_io: a scattered plan arrives byte by byte, whatever the size of the pieces") {
    for (std::size_t piece_bytes : {1, 7, 100, 1024, 1 << 20}) {
        CAPTURE(piece_bytes);
        scattered x;
        scene s{piece_bytes};
        s.start(1, x.job);
        s.vs.run();
        REQUIRE(s.done().size() == 1);
        CHECK(s.done()[0].result == agent_result::success);
        CHECK(s.done()[0].bytes == x.job.plan->bytes);
        CHECK(s.done()[0].began > time_point{});
        CHECK(s.done()[0].ended >= s.done()[0].began);
        CHECK(x.to == x.wanted);
    }
}

TEST_CASE("copy_io: a digest that is made on the way is that of the plan, whatever the size of the "
          "pieces") {
    for (std::size_t piece_bytes : {1, 7, 100, 1024, 1 << 20})
        for (const bool past_cache : {false, true}) {
            CAPTURE(piece_bytes);
            scattered x;
            x.job.past_cache = past_cache;
            scene s{piece_bytes};
            start_copy asked{transfer_id{1}, x.job, s.owner.handle()};
            asked.digest = digest_share{0, pairs_of(*x.job.plan)};
            caf::anon_send(s.copier, std::move(asked));
            s.vs.run();
            REQUIRE(s.done().size() == 1);
            CHECK(s.done()[0].bytes == x.job.plan->bytes);
            CHECK(s.done()[0].digest == sums_of_sources(*x.job.plan, x.job.source_pools));
            CHECK(s.done()[0].digest == sums_of_targets(*x.job.plan, x.job.target_pools));
            CHECK(x.to == x.wanted);
        }
}

TEST_CASE("copy_now: a scattered plan arrives byte by byte") {
    scattered x;
    copy_now(x.job);
    CHECK(x.to == x.wanted);
}

TEST_CASE("copy_io: an empty plan succeeds") {
    scene s;
    copy_job nothing;
    nothing.plan = std::make_shared<copy_plan>();
    s.start(1, nothing);
    s.vs.run();
    REQUIRE(s.done().size() == 1);
    CHECK(s.done()[0].result == agent_result::success);
}

TEST_CASE("copy_io: a cancelled copy stops at its next piece") {
    const memory from(1 << 20, std::byte{1});
    memory to(1 << 20);
    scene s{4096};
    s.start(1, plain(from, to, from.size()));
    while (written(to) < 3 * 4096)
        REQUIRE(s.vs.scheduler().try_run_once());
    s.cancel(1);
    s.vs.run();
    REQUIRE(s.done().size() == 1);
    CHECK(s.done()[0].result == agent_result::failed);
    CHECK(code_of(s.done()[0].error) == errc::cancelled);
    CHECK(s.done()[0].bytes == written(to));
    CHECK(s.done()[0].bytes <= 5 * 4096);
    s.cancel(1); // the copy is already over
    s.vs.run();
    CHECK(s.done().size() == 1);
}

TEST_CASE("copy_io: a small copy does not wait for a large one") {
    const memory from(64 << 20, std::byte{1});
    memory large(64 << 20);
    memory small(4096);
    scene s;
    s.start(1, plain(from, large, large.size()));
    while (written(large) == 0)
        REQUIRE(s.vs.scheduler().try_run_once());
    s.start(2, plain(from, small, small.size()));
    while (small.back() == std::byte{})
        REQUIRE(s.vs.scheduler().try_run_once());
    CHECK(written(large) <= std::size_t{8} << 20);
    s.vs.run();
    REQUIRE(s.done().size() == 2);
    CHECK(s.done()[0].id == transfer_id{2});
    CHECK(s.done()[1].result == agent_result::success);
    CHECK(written(large) == large.size());
}

TEST_CASE("copy_io: 4 KiB beside 4 GiB wait for the piece under way and one turn, no more (I12)") {
    // The same piece many times: the plan is 4 GiB long, but the memory is not.
    constexpr std::uint32_t pieces = 4096;
    const auto piece_bytes = limits{}.copy_piece_bytes_max;
    const memory from(piece_bytes, std::byte{1});
    memory large(piece_bytes);
    memory small(4096);
    auto job = plain(from, large, piece_bytes);
    auto plan = *job.plan;
    plan.parts[0].slots.assign(pieces, slot_pair{0, 0});
    plan.bytes = std::uint64_t{pieces} * piece_bytes;
    plan.fragments = pieces;
    job.plan = std::make_shared<const copy_plan>(plan);
    scene s;
    s.start(1, job);
    const auto copy_a_piece = [&] { // true: it copied a piece of the large copy
        large.front() = std::byte{};
        while (large.front() == std::byte{} && small.back() == std::byte{})
            REQUIRE(s.vs.scheduler().try_run_once());
        return large.front() != std::byte{};
    };
    for (int before = 0; before < 10; ++before)
        REQUIRE(copy_a_piece());
    s.start(2, plain(from, small, small.size()));
    int waited = 0;
    while (copy_a_piece())
        ++waited;
    CHECK(waited <= 2);
    s.cancel(1);
    s.vs.run();
    REQUIRE(s.done().size() == 2);
    CHECK(s.done()[0].id == transfer_id{2});
    CHECK(s.done()[0].result == agent_result::success);
}

TEST_CASE("copy_io: large copies share by bytes") {
    const memory from(1 << 20, std::byte{1});
    std::vector<memory> targets(3, memory(1 << 20));
    scene s{4096};
    for (std::uint64_t id = 0; id < targets.size(); ++id)
        s.start(id, plain(from, targets[id], from.size()));
    while (written(targets[0]) < from.size() / 2)
        REQUIRE(s.vs.scheduler().try_run_once());
    for (const auto& target : targets) {
        CHECK(written(target) + 2 * 4096 >= from.size() / 2);
        CHECK(written(target) <= from.size() / 2 + 2 * 4096);
    }
}

TEST_CASE("copy_io: classes share by their weights, and peers of a class alike whatever they have "
          "asked for") {
    const memory from(1 << 20, std::byte{1});
    std::vector<memory> targets(5, memory(1 << 20));
    scene s{4096};
    const auto start = [&](std::size_t id, flow of) {
        start_copy asked{transfer_id{id}, plain(from, targets[id], from.size()), s.owner.handle()};
        asked.of = of;
        caf::anon_send(s.copier, std::move(asked));
    };
    start(0, {.urgency = priority::high, .peer = 1});
    start(1, {.urgency = priority::normal, .peer = 1, .session = 1});
    start(2, {.urgency = priority::normal, .peer = 1, .session = 2});
    start(3, {.urgency = priority::normal, .peer = 2});
    start(4, {.urgency = priority::low, .peer = 3});
    while (written(targets[0]) < from.size())
        REQUIRE(s.vs.scheduler().try_run_once());
    const auto pieces = [&](std::size_t id) { return written(targets[id]) / 4096; };
    CHECK(pieces(1) + pieces(2) + pieces(3) == doctest::Approx(64).epsilon(0.05)); // of 256
    CHECK(pieces(3) == doctest::Approx(32).epsilon(0.07));
    CHECK(pieces(1) == doctest::Approx(16).epsilon(0.07));
    CHECK(pieces(4) == doctest::Approx(16).epsilon(0.07));
    s.vs.run();
    CHECK(s.done().size() == 5);
}

TEST_CASE("copy_io: a second copy under a live number is refused and the first goes on") {
    const memory from(1 << 16, std::byte{1});
    memory first(1 << 16);
    memory second(1 << 16);
    scene s{4096};
    s.start(1, plain(from, first, from.size()));
    s.start(1, plain(from, second, from.size()));
    s.vs.run();
    REQUIRE(s.done().size() == 2);
    CHECK(s.done()[0].result == agent_result::failed);
    CHECK(code_of(s.done()[0].error) == errc::duplicate);
    CHECK(s.done()[1].result == agent_result::success);
    CHECK(written(first) == first.size());
    CHECK(written(second) == 0);
    s.start(1, plain(from, second, from.size())); // the number is free again
    s.vs.run();
    CHECK(s.done().back().result == agent_result::success);
}

TEST_CASE("copy_io: a job that does not fit to its pools is refused and copies go on") {
    const memory from(1 << 16, std::byte{1});
    memory to(1 << 16);
    scene s;
    auto good = plain(from, to, from.size());
    auto no_plan = good;
    no_plan.plan = nullptr;
    auto no_source = good;
    no_source.source_pools.clear();
    auto no_target = good;
    no_target.target_pools.clear();
    auto no_layout = good;
    auto bent = *good.plan;
    bent.parts[0].layout = nullptr;
    no_layout.plan = std::make_shared<copy_plan>(bent);
    auto wrong_sum = good;
    bent = *good.plan;
    bent.bytes += 1;
    wrong_sum.plan = std::make_shared<copy_plan>(bent);
    std::uint64_t id = 0;
    for (const auto& job : {no_plan, no_source, no_target, no_layout, wrong_sum})
        s.start(++id, job);
    s.vs.run();
    REQUIRE(s.done().size() == 5);
    for (const auto& x : s.done()) {
        CHECK(x.result == agent_result::failed);
        CHECK(code_of(x.error) == errc::plan_invalid);
    }
    s.start(++id, good);
    s.vs.run();
    CHECK(s.done().back().result == agent_result::success);
}

TEST_CASE("copy_io: mappings are held until the copy has ended, and not longer") {
    const memory from(1 << 16, std::byte{1});
    memory to(1 << 16);
    scene s{4096};
    auto held = std::make_shared<int>(1);
    const std::weak_ptr<int> watch{held};
    auto job = plain(from, to, from.size());
    job.holds.push_back(std::move(held));
    s.start(1, std::move(job));
    while (to.back() == std::byte{}) {
        CHECK_FALSE(watch.expired());
        REQUIRE(s.vs.scheduler().try_run_once());
    }
    s.vs.run();
    CHECK(s.done().size() == 1);
    CHECK(watch.expired());
}

TEST_CASE("copy_io: copies that come and go do not multiply its steps") {
    const memory from(1 << 20, std::byte{1});
    memory to(1 << 20);
    scene s{4096};
    for (std::uint64_t id = 0; id < 100; ++id) {
        s.start(id, plain(from, to, from.size()));
        s.cancel(id);
    }
    s.start(100, plain(from, to, from.size()));
    s.start(101, plain(from, to, from.size()));
    while (written(to) == 0)
        REQUIRE(s.vs.scheduler().try_run_once());
    // With one chain of steps per start, that many steps would be in the mailbox before this
    // message.
    s.cancel(100);
    s.cancel(101);
    s.vs.run();
    REQUIRE(s.done().size() == 102);
    CHECK(s.done()[100].bytes + s.done()[101].bytes <= std::uint64_t{8} * 4096);
}

TEST_CASE("copy_io: stop ends every copy once and touches nothing afterwards") {
    const memory from(1 << 20, std::byte{1});
    memory to(1 << 20);
    scene s{4096};
    s.start(1, plain(from, to, from.size()));
    s.start(2, plain(from, to, from.size()));
    while (written(to) == 0)
        REQUIRE(s.vs.scheduler().try_run_once());
    s.vs.tell_and_run(s.copier, stop_io{});
    REQUIRE(s.done().size() == 2);
    for (const auto& x : s.done()) {
        CHECK(x.result == agent_result::failed);
        CHECK(code_of(x.error) == errc::stopped);
    }
    CHECK(written(to) < to.size());
}

TEST_CASE("copy_io: on a loop of its own it copies, hears a cancel, and stops") {
    real_system real;
    auto loop = io_loop::make(real.system(), {.name = "copy"});
    REQUIRE(loop);
    {
        caf::scoped_actor self{real.system()};
        auto copier = spawn_copy_io(real.system(), placement{loop->get()}, {});
        {
            scattered x;
            const memory from(256 << 20, std::byte{1});
            memory to(256 << 20);
            auto owner = caf::actor_cast<completion_actor>(self);
            self->send(copier, start_copy{transfer_id{1}, plain(from, to, from.size()), owner});
            self->send(copier, start_copy{transfer_id{2}, x.job, owner});
            std::vector<transfer_done> done;
            auto next = [&] {
                self->receive([&](transfer_done& y) { done.push_back(std::move(y)); },
                              caf::after(20s) >> [] { FAIL("no transfer_done"); });
            };
            next();
            CHECK(done.at(0).id == transfer_id{2});
            CHECK(x.to == x.wanted);
            self->send(copier, cancel_transfer{transfer_id{1}});
            next();
            CHECK(done.at(1).id == transfer_id{1});
            CHECK(done.at(1).bytes == written(to));
        }
        self->request(copier, 20s, stop_io{})
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
        self->wait_for(copier);
    }
    (*loop)->stop();
}
