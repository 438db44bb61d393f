// SPDX-License-Identifier: Apache-2.0
// What every copy actor promises, as tests over a kit that makes actors of one kind. A test file of
// a copy actor defines a kit and invokes KVFERRY_COPY_CONFORMANCE(kit).
//
// A kit derives from copy_loop, keeps one actor on its loop in its constructor, and has a type
// `memory` (constructed with a size; address(), write(bytes), read()) and `long_copy_bytes`, a size
// that the actor copies in several pieces.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/values/copy_plan.hpp"
#include "messages/values/ids.hpp"
#include "messages/wire/header.hpp"
#include "messages/wire/protocol.hpp"
#include "tests/support/random_plan.hpp"
#include "tests/support/real_system.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/planner/plan/piece_digest.hpp"

#include <caf/actor_cast.hpp>
#include <caf/after.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <doctest/doctest.h>

#include <cstdlib>
#include <future>
#include <optional>
#include <set>

namespace kvferry::testing {

inline constexpr std::chrono::seconds copy_patience{30};

/// A copy actor on a loop of its own.
class copy_loop {
public:
    copy_loop() {
        auto made = io_loop::make(real_.system(), {"copy-test", std::chrono::microseconds{0}});
        REQUIRE_MESSAGE(made, describe(made.error()));
        loop_ = std::move(*made);
    }

    ~copy_loop() {
        if (actor_)
            caf::anon_send(actor_, stop_io{});
        forget();
        real_.system().await_all_actors_done();
    }

    copy_loop(const copy_loop&) = delete;
    copy_loop& operator=(const copy_loop&) = delete;

    caf::actor_system& system() { return real_.system(); }
    io_loop& loop() { return *loop_; }
    const copy_actor& actor() const { return actor_; }
    void keep(copy_actor actor) { actor_ = std::move(actor); }
    /// For tests that have already ended the actor.
    void forget() { actor_ = copy_actor{}; }

    /// All messages that `send` sends reach the actor together: nothing on the loop runs in
    /// between.
    template <class F>
    void together(F send) {
        std::promise<void> held, release;
        loop_->post([&held, until = release.get_future().share()] {
            held.set_value();
            until.wait_for(copy_patience);
        });
        held.get_future().wait();
        send();
        release.set_value();
    }

private:
    real_system real_;
    std::unique_ptr<io_loop> loop_;
    copy_actor actor_;
};

/// Memory of this process, aligned as pools are.
class host_memory {
public:
    explicit host_memory(std::size_t bytes)
        : bytes_(bytes),
          base_(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 4096) / 4096 * 4096))) {}
    std::uint64_t address() const { return reinterpret_cast<std::uint64_t>(base_.get()); }
    void write(const std::vector<std::byte>& content) {
        std::memcpy(base_.get(), content.data(), content.size());
    }
    std::vector<std::byte> read() const { return {base_.get(), base_.get() + bytes_}; }

private:
    struct release {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    std::size_t bytes_;
    std::unique_ptr<std::byte, release> base_;
};

inline auto ask_stop(caf::scoped_actor& self, const copy_actor& actor) {
    return self->request(actor, copy_patience, stop_io{});
}

/// Starts copies and hears of their ends.
class copy_probe {
public:
    explicit copy_probe(copy_loop& kit) : kit_(kit), self_(kit.system()) {}

    transfer_id start(copy_job job, device_events events = {}) {
        const transfer_id id{++last_};
        self_->send(kit_.actor(), start_copy{id, std::move(job), sink(), events});
        return id;
    }
    /// With a digest of all that is read.
    transfer_id start_adding(copy_job job, bool read_only = false) {
        start_copy asked{transfer_id{++last_}, std::move(job), sink()};
        asked.digest = digest_share{0, pairs_of(*asked.job.plan)};
        asked.read_only = read_only;
        const auto id = asked.id;
        self_->send(kit_.actor(), std::move(asked));
        return id;
    }
    void cancel(transfer_id id) { self_->send(kit_.actor(), cancel_transfer{id}); }

    transfer_done next() {
        transfer_done result;
        self_->receive([&](transfer_done& message) { result = std::move(message); },
                       caf::after(copy_patience) >> [] { FAIL("no transfer_done came"); });
        return result;
    }

    /// Takes everything that the actor sends before it answers a question now. There must be no
    /// further end.
    void check_nothing_more() {
        self_->request(kit_.actor(), copy_patience, cancel_transfer{transfer_id{0}})
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
        int more = 0;
        for (bool empty = false; !empty;)
            self_->receive([&](const transfer_done&) { ++more; },
                           caf::after(std::chrono::seconds{0}) >> [&] { empty = true; });
        CHECK(more == 0);
    }

    /// The answer waits in the mailbox until it is asked for, so this works while the loop is held.
    void send_stop() { stop_.emplace(ask_stop(self_, kit_.actor())); }

    caf::error await_stopped() {
        caf::error result;
        stop_->receive([] {}, [&](caf::error& error) { result = std::move(error); });
        return result;
    }

private:
    completion_actor sink() {
        return caf::actor_cast<completion_actor>(caf::actor_cast<caf::strong_actor_ptr>(self_));
    }

    copy_loop& kit_;
    caf::scoped_actor self_;
    std::optional<decltype(ask_stop(std::declval<caf::scoped_actor&>(),
                                    std::declval<copy_actor>()))>
        stop_;
    std::uint64_t last_ = 0;
};

/// A plan with its memory on both sides.
template <class Kit>
struct prepared_copy {
    prepared_copy(plan_sample plan, std::uint32_t seed)
        : sample(std::move(plan)), source_content(random_bytes(sample.source_bytes, seed)),
          target_content(random_bytes(sample.target_bytes, seed + 1)), source(sample.source_bytes),
          target(sample.target_bytes) {
        source.write(source_content);
        target.write(target_content);
    }
    copy_job job() const { return sample.job(source.address(), target.address()); }
    /// Of the source, as the host adds it up.
    plan_digest digest() const {
        const auto job = sample.job(reinterpret_cast<std::uint64_t>(source_content.data()), 0);
        return sums_of_sources(*job.plan, job.source_pools);
    }
    bool arrived() const { return target.read() == sample.applied(source_content, target_content); }

    plan_sample sample;
    std::vector<std::byte> source_content, target_content;
    typename Kit::memory source, target;
};

template <class Kit>
prepared_copy<Kit> long_copy(std::uint32_t seed) {
    return {shuffled_fragments(static_cast<std::uint32_t>(Kit::long_copy_bytes / 4096), 4096, seed),
            seed};
}

inline void check_success(const transfer_done& done, transfer_id id, std::uint64_t bytes) {
    CHECK_MESSAGE(done.result == agent_result::success, describe(done.error));
    CHECK_FALSE(done.error);
    CHECK(done.id == id);
    CHECK(done.bytes == bytes);
    CHECK(done.began <= done.ended);
}

TEST_CASE_TEMPLATE_DEFINE("copy: every byte of a plan lands, and nothing else changes", Kit,
                          copy_bytes) {
    Kit kit;
    copy_probe probe{kit};
    for (std::uint32_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        prepared_copy<Kit> copy{random_plans{seed}.next(), seed};
        const auto id = probe.start(copy.job());
        check_success(probe.next(), id, copy.sample.plan->bytes);
        CHECK(copy.arrived());
    }
    probe.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE(
    "copy: a digest made on the way is that of the host, whatever the plan, and no byte lands when "
    "nothing is to be written",
    Kit, copy_digest) {
    Kit kit;
    copy_probe probe{kit};
    const auto check = [&](prepared_copy<Kit>& copy) {
        auto id = probe.start_adding(copy.job(), true);
        auto read = probe.next();
        check_success(read, id, copy.sample.plan->bytes);
        CHECK((copy.target.read() == copy.target_content));
        id = probe.start_adding(copy.job());
        auto done = probe.next();
        check_success(done, id, copy.sample.plan->bytes);
        CHECK(copy.arrived());
        REQUIRE(done.digest);
        CHECK(done.digest == copy.digest());
        CHECK(read.digest == done.digest);
    };
    for (std::uint32_t seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        prepared_copy<Kit> copy{random_plans{seed}.next(), seed};
        check(copy);
    }
    for (std::uint64_t bytes : {1ul, 4ul, 12ul, 24ul, 100ul, 512ul, 520ul, 4100ul, 65536ul}) {
        CAPTURE(bytes);
        prepared_copy<Kit> copy{shuffled_fragments(100, bytes), 1};
        check(copy);
    }
    auto heavy = long_copy<Kit>(1);
    check(heavy);
    probe.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("copy: a bit that has flipped in memory is found, and the digest names "
                          "its pair of slots",
                          Kit, copy_flip) {
    Kit kit;
    copy_probe probe{kit};
    prepared_copy<Kit> copy{shuffled_fragments(40, 4096), 1};
    probe.start_adding(copy.job());
    const auto before = *probe.next().digest;
    const auto pool = copy.job().source_pools.front();
    const auto& slots = copy.sample.plan->parts.front().slots;
    for (std::uint64_t pair = 0; pair < slots.size(); ++pair) {
        auto damaged = copy.source_content;
        const auto at = pool.slot0_address - copy.source.address()
                        + slots[pair].source * pool.slot_stride_bytes + 97 * pair;
        damaged[at] ^= std::byte{1} << pair % 8;
        copy.source.write(damaged);
        probe.start_adding(copy.job(), true);
        const auto after = *probe.next().digest;
        CHECK(after.sum != before.sum);
        const auto where = first_difference(before, after, slots.size());
        CHECK(where.first == pair);
        CHECK(where.end == pair + 1);
    }
}

TEST_CASE_TEMPLATE_DEFINE("copy: many at once each end once, with their own bytes", Kit,
                          copy_many) {
    Kit kit;
    copy_probe probe{kit};
    std::vector<std::unique_ptr<prepared_copy<Kit>>> copies;
    for (std::uint32_t seed = 1; seed <= 100; ++seed)
        copies.push_back(std::make_unique<prepared_copy<Kit>>(random_plans{seed}.next(), seed));
    kit.together([&] {
        for (auto& copy : copies)
            probe.start(copy->job());
    });
    std::set<transfer_id> ended;
    for (std::size_t count = 0; count < copies.size(); ++count) {
        const auto done = probe.next();
        CHECK(ended.insert(done.id).second);
        check_success(done, done.id, copies.at(done.id.value - 1)->sample.plan->bytes);
    }
    for (auto& copy : copies)
        CHECK(copy->arrived());
    probe.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("copy: a plan without bytes ends well, once", Kit, copy_nothing) {
    Kit kit;
    copy_probe probe{kit};
    const auto id = probe.start(copy_job{std::make_shared<copy_plan>(), {}, {}, {}});
    check_success(probe.next(), id, 0);
    probe.check_nothing_more();
}

TEST_CASE_TEMPLATE_DEFINE("copy: what a job holds is let go when it has ended", Kit, copy_holds) {
    Kit kit;
    copy_probe probe{kit};
    prepared_copy<Kit> copy{random_plans{7}.next(), 7};
    auto released = std::make_shared<std::promise<void>>();
    auto gone = released->get_future();
    {
        auto job = copy.job();
        job.holds.push_back(std::shared_ptr<const void>(
            copy.sample.plan.get(), [released](const void*) { released->set_value(); }));
        const auto id = probe.start(std::move(job));
        check_success(probe.next(), id, copy.sample.plan->bytes);
    }
    probe.check_nothing_more();
    CHECK(gone.wait_for(copy_patience) == std::future_status::ready);
}

TEST_CASE_TEMPLATE_DEFINE(
    "copy: a cancelled copy stops before its end, ends once, and no byte comes later", Kit,
    copy_cancel) {
    Kit kit;
    copy_probe probe{kit};
    auto copy = long_copy<Kit>(3);
    transfer_id id;
    kit.together([&] {
        id = probe.start(copy.job());
        probe.cancel(id);
        probe.cancel(id);
    });
    const auto done = probe.next();
    CHECK(done.id == id);
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::cancelled);
    CHECK(done.bytes < copy.sample.plan->bytes);
    const auto then = copy.target.read();
    probe.check_nothing_more();
    CHECK((copy.target.read() == then));
}

TEST_CASE_TEMPLATE_DEFINE("copy: a cancel of a copy that is unknown or over changes nothing", Kit,
                          copy_late_cancel) {
    Kit kit;
    copy_probe probe{kit};
    prepared_copy<Kit> copy{random_plans{5}.next(), 5};
    probe.cancel(transfer_id{4711});
    const auto id = probe.start(copy.job());
    check_success(probe.next(), id, copy.sample.plan->bytes);
    probe.cancel(id);
    probe.check_nothing_more();
    CHECK(copy.arrived());
}

TEST_CASE_TEMPLATE_DEFINE("copy: a short copy ends before a long one that began earlier", Kit,
                          copy_fair) {
    Kit kit;
    copy_probe probe{kit};
    auto heavy = long_copy<Kit>(1);
    prepared_copy<Kit> light{shuffled_fragments(4, 512), 2};
    transfer_id heavy_id, light_id;
    kit.together([&] {
        heavy_id = probe.start(heavy.job());
        light_id = probe.start(light.job());
    });
    check_success(probe.next(), light_id, light.sample.plan->bytes);
    check_success(probe.next(), heavy_id, heavy.sample.plan->bytes);
    CHECK(light.arrived());
    CHECK(heavy.arrived());
}

TEST_CASE_TEMPLATE_DEFINE("copy: a stop ends every copy once, then answers", Kit, copy_stop) {
    Kit kit;
    copy_probe probe{kit};
    std::vector<prepared_copy<Kit>> copies;
    for (std::uint32_t seed = 1; seed <= 3; ++seed)
        copies.push_back(long_copy<Kit>(seed));
    std::set<transfer_id> started;
    kit.together([&] {
        for (auto& copy : copies)
            started.insert(probe.start(copy.job()));
        probe.send_stop();
    });
    CHECK_FALSE(probe.await_stopped());
    for (std::size_t count = 0; count < copies.size(); ++count) {
        const auto done = probe.next();
        CHECK(started.erase(done.id) == 1);
        CHECK(done.result == agent_result::failed);
        CHECK(code_of(done.error) == errc::stopped);
    }
    kit.forget();
}

} // namespace kvferry::testing

#define KVFERRY_COPY_CONFORMANCE(kit)                                                              \
    namespace kvferry::testing {                                                                   \
    TEST_CASE_TEMPLATE_INVOKE(copy_bytes, kit);                                                    \
    TEST_CASE_TEMPLATE_INVOKE(copy_digest, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(copy_flip, kit);                                                     \
    TEST_CASE_TEMPLATE_INVOKE(copy_many, kit);                                                     \
    TEST_CASE_TEMPLATE_INVOKE(copy_nothing, kit);                                                  \
    TEST_CASE_TEMPLATE_INVOKE(copy_holds, kit);                                                    \
    TEST_CASE_TEMPLATE_INVOKE(copy_cancel, kit);                                                   \
    TEST_CASE_TEMPLATE_INVOKE(copy_late_cancel, kit);                                              \
    TEST_CASE_TEMPLATE_INVOKE(copy_fair, kit);                                                     \
    TEST_CASE_TEMPLATE_INVOKE(copy_stop, kit);                                                     \
    }
