// SPDX-License-Identifier: Apache-2.0
// Several copy actors as one keep the promises of a copy actor, and share the work.
#include "tests/transport/copy/copy_conformance.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/copy/copy_team.hpp"
#include "transport/planner/plan/plan_split.hpp"

#include <array>

namespace kvferry::testing {

/// All on one loop: whoever holds it holds the whole team.
struct copy_team_kit : copy_loop {
    using memory = host_memory;
    static constexpr std::size_t long_copy_bytes = std::size_t{2} << 20;
    static constexpr std::size_t members = 3;

    copy_team_kit() {
        limits bounds;
        bounds.copy_piece_bytes_max = std::size_t{64} << 10;
        std::vector<copy_actor> copiers;
        for (std::size_t index = 0; index < members; ++index)
            copiers.push_back(spawn_copy_io(system(), placement{&loop()}, {bounds}));
        keep(spawn_copy_team(system(), placement{&loop()}, {copiers, 4096}));
    }
};

/// Each member on a thread of its own, as in a rank.
struct threaded_team_kit : copy_loop {
    using memory = host_memory;
    static constexpr std::size_t long_copy_bytes = std::size_t{2} << 20;

    threaded_team_kit() {
        std::vector<copy_actor> copiers;
        for (auto& thread : threads_) {
            auto made = io_loop::make(system(), {"copy-test", std::chrono::microseconds{0}});
            REQUIRE_MESSAGE(made, describe(made.error()));
            thread = std::move(*made);
            copiers.push_back(spawn_copy_io(system(), placement{thread.get()}, {}));
        }
        keep(spawn_copy_team(system(), placement{&loop()}, {copiers, 4096}));
    }

    /// Before its threads, on which its members live.
    ~threaded_team_kit() {
        caf::scoped_actor self{system()};
        ask_stop(self, actor())
            .receive([] {}, [](const caf::error& error) { FAIL_CHECK(describe(error)); });
        forget();
    }

private:
    std::array<std::unique_ptr<io_loop>, 3> threads_;
};

namespace {

/// Every stretch of a plan, in its order.
std::vector<plan_stretch> stretches(const plan_sample& sample, const copy_plan& plan) {
    auto job = sample.job(0, 0);
    job.plan = std::make_shared<const copy_plan>(plan);
    std::vector<plan_stretch> result;
    for (plan_cursor cursor; auto next = cursor.next(job, plan.bytes);)
        result.push_back(*next);
    return result;
}

} // namespace

TEST_CASE("split: the shares of a plan are the plan, in its order") {
    for (std::uint32_t seed = 1; seed <= 200; ++seed) {
        CAPTURE(seed);
        const auto sample = random_plans{seed}.next();
        for (std::size_t ways : {1u, 2u, 3u, 8u, 1000u}) {
            CAPTURE(ways);
            const auto shares = split(*sample.plan, ways);
            CHECK(shares.size() <= ways);
            std::vector<plan_stretch> together;
            std::uint64_t bytes = 0, fragments = 0;
            for (const auto& share : shares) {
                CHECK(share.bytes > 0);
                bytes += share.bytes;
                fragments += share.fragments;
                const auto part = stretches(sample, share);
                together.insert(together.end(), part.begin(), part.end());
            }
            CHECK(bytes == sample.plan->bytes);
            CHECK(fragments == sample.plan->fragments);
            CHECK((together == stretches(sample, *sample.plan)));
        }
    }
}

TEST_CASE("split: shares differ by at most one pair of slots") {
    const auto sample = shuffled_fragments(1000, 4096, 5);
    for (std::size_t ways : {2u, 3u, 7u, 16u}) {
        const auto shares = split(*sample.plan, ways);
        REQUIRE(shares.size() == ways);
        for (const auto& share : shares) {
            CHECK(share.bytes >= sample.plan->bytes / ways - 4096);
            CHECK(share.bytes <= sample.plan->bytes / ways + 4096);
        }
    }
}

TEST_CASE("split: a plan that no copy accepts stays whole") {
    copy_plan plan;
    plan.parts.push_back({0, 0, nullptr, {{1, 2}}});
    plan.bytes = 4096;
    CHECK(split(plan, 4).size() == 1);
}

TEST_CASE("copy team: a plan without a template is refused by a member, by name") {
    copy_team_kit kit;
    copy_probe probe{kit};
    auto plan = std::make_shared<copy_plan>();
    plan->parts.push_back({0, 0, nullptr, {{1, 2}}});
    plan->bytes = std::uint64_t{1} << 20;
    probe.start(copy_job{plan, {{}}, {{}}, {}});
    const auto done = probe.next();
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::plan_invalid);
    probe.check_nothing_more();
}

TEST_CASE("copy team: a plan that holds other bytes than it says is no success") {
    copy_team_kit kit;
    copy_probe probe{kit};
    prepared_copy<copy_team_kit> copy{shuffled_fragments(64, 4096, 3), 3};
    auto wrong = std::make_shared<copy_plan>(*copy.sample.plan);
    wrong->bytes += 4096;
    auto job = copy.job();
    job.plan = wrong;
    probe.start(std::move(job));
    const auto done = probe.next();
    CHECK(done.result == agent_result::failed);
    CHECK(code_of(done.error) == errc::plan_invalid);
    probe.check_nothing_more();
}

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::copy_team_kit);
TYPE_TO_STRING(kvferry::testing::threaded_team_kit);
KVFERRY_COPY_CONFORMANCE(copy_team_kit)

namespace kvferry::testing {
TEST_CASE_TEMPLATE_INVOKE(copy_bytes, threaded_team_kit);
TEST_CASE_TEMPLATE_INVOKE(copy_many, threaded_team_kit);
TEST_CASE_TEMPLATE_INVOKE(copy_holds, threaded_team_kit);
} // namespace kvferry::testing
