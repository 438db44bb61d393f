// SPDX-License-Identifier: Apache-2.0
// Plans with a byte out of bounds, or with a byte written twice, are refused.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// A plan that passes: three blocks between equal pools of 8 slots, with regions that fit exactly.
struct checked {
    rank_info writer, receiver;
    std::vector<memory_region> source_regions, target_regions;
    copy_plan plan;

    checked() {
        cache_format format;
        format.layers = 2;
        format.kv_heads = 2;
        format.head_dim = 8;
        format.tokens_per_block = 8;
        writer = make_instance("ctx", {}, format).front();
        receiver = make_instance("gen", {2}, format).back(); // the last head: up to the slot's end
        writer.pages->pools[0].region_offset_bytes = 100;
        source_regions.resize(1);
        source_regions[0].bytes = 100 + footprint_bytes(writer.pages->pools[0]);
        target_regions.resize(1);
        target_regions[0].bytes = footprint_bytes(receiver.pages->pools[0]);
        plan_cache cache;
        auto made = make_plan(writer, {{0, 24}, 24, {{0, {7, 0, 3}}}}, receiver,
                              {{0, 24}, 24, {{0, {1, 7, 2}}}}, cache);
        REQUIRE(made);
        plan = *made;
    }

    plan_part& part() { return plan.parts[0]; }

    template <class F>
    void change_slot(std::size_t index, F change) {
        std::vector<slot_pair> pairs{part().slots.begin(), part().slots.end()};
        change(pairs[index]);
        part().slots = pairs;
    }

    /// A plan with the caller's template, and sums that match it.
    void use(std::vector<run> runs) {
        copy_template made;
        made.runs = std::move(runs);
        for (const auto& x : made.runs) {
            made.bytes += x.bytes * x.count;
            made.fragments += x.count;
        }
        part().layout = std::make_shared<const copy_template>(made);
        add_up();
    }

    void add_up() {
        plan.bytes = plan.fragments = 0;
        for (const auto& x : plan.parts) {
            plan.bytes += x.layout->bytes * x.slots.size();
            plan.fragments += x.layout->fragments * x.slots.size();
        }
    }

    std::string verdict() const {
        const auto error =
            check_plan(plan, *writer.pages, source_regions, *receiver.pages, target_regions);
        CHECK((!error || code_of(error) == errc::plan_invalid));
        return text_of(error);
    }
};

bool has(const std::string& text, std::string_view what) {
    INFO(text);
    return text.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("plan_check: what make_plan makes passes, up to the last byte of a region") {
    checked x;
    CHECK(x.verdict().empty());
    --x.source_regions[0].bytes;
    CHECK(has(x.verdict(), "source pool 0: slot 7 ends at byte"));
    ++x.source_regions[0].bytes;
    --x.target_regions[0].bytes;
    CHECK(has(x.verdict(), "target pool 0: slot 7 ends at byte"));
}

TEST_CASE("plan_check: slots, pools and regions that do not exist are refused") {
    checked x;
    SUBCASE("source slot") {
        x.change_slot(1, [](slot_pair& pair) { pair.source = 8; });
        CHECK(has(x.verdict(), "source pool 0: slot 8 of 8"));
    }
    SUBCASE("target slot below no_slot") {
        x.change_slot(1, [](slot_pair& pair) { pair.target = static_cast<std::uint32_t>(-2); });
        CHECK(has(x.verdict(), "target pool 0: slot -2 of 8"));
    }
    SUBCASE("pool") {
        x.part().target_pool = 1;
        CHECK(has(x.verdict(), "target pool 1 of 1"));
    }
    SUBCASE("region") {
        x.source_regions.clear();
        CHECK(has(x.verdict(), "source pool 0 lies in region 0 of 0"));
    }
}

TEST_CASE("plan_check: a slot that is written twice is refused") {
    checked x;
    x.change_slot(2, [](slot_pair& pair) { pair.target = 7; });
    CHECK(has(x.verdict(), "target pool 0: slot 7 would be written twice"));
}

TEST_CASE("plan_check: duplicates are found among slots that lie far apart") {
    checked x;
    x.receiver.pages->pools[0].slot_count = 0x7fffffff;
    x.target_regions[0].bytes = ~0ull;
    x.part().slots = {{0, 0x7ffffffe}, {1, 5}, {2, 0x7ffffffd}};
    CHECK(x.verdict().empty());
    x.change_slot(1, [](slot_pair& pair) { pair.target = 0x7ffffffe; });
    CHECK(has(x.verdict(), "slot 2147483646 would be written twice"));
}

TEST_CASE("plan_check: two parts may share a slot only if their bytes are different ones") {
    checked x;
    auto second = x.part();
    SUBCASE("same bytes") {
        x.plan.parts.push_back(second);
        x.add_up();
        CHECK(has(x.verdict(), "would be written twice, by parts 0 and 1"));
    }
    SUBCASE("same bytes of other slots") {
        second.slots = {{0, 3}};
        x.plan.parts.push_back(second);
        x.add_up();
        CHECK(x.verdict().empty());
    }
    SUBCASE("interleaved bytes") {
        x.use({{0, 0, 16, 4, 32, 32}});
        second.layout =
            std::make_shared<const copy_template>(copy_template{{{0, 16, 16, 4, 32, 32}}, 64, 4});
        x.plan.parts.push_back(second);
        x.add_up();
        CHECK(x.verdict().empty());
        x.plan.parts[1].layout =
            std::make_shared<const copy_template>(copy_template{{{0, 17, 16, 3, 32, 32}}, 48, 3});
        x.add_up();
        CHECK(has(x.verdict(), "by parts 0 and 1"));
    }
}

TEST_CASE("plan_check: sums that are not those of the parts are refused") {
    checked x;
    SUBCASE("plan bytes") {
        ++x.plan.bytes;
        CHECK(has(x.verdict(), "the plan says"));
    }
    SUBCASE("plan fragments") {
        --x.plan.fragments;
        CHECK(has(x.verdict(), "the plan says"));
    }
    SUBCASE("template") {
        auto wrong = *x.part().layout;
        ++wrong.bytes;
        x.part().layout = std::make_shared<const copy_template>(wrong);
        x.add_up();
        CHECK(has(x.verdict(), "a template says"));
    }
    SUBCASE("no template") {
        x.part().layout = nullptr;
        CHECK(has(x.verdict(), "without template"));
    }
    SUBCASE("empty run") {
        x.use({{0, 0, 0, 1, 0, 0}});
        CHECK(has(x.verdict(), "1 stretches of 0 bytes"));
        x.use({{0, 0, 8, 0, 0, 0}});
        CHECK(has(x.verdict(), "0 stretches of 8 bytes"));
    }
}

TEST_CASE("plan_check: numbers that overflow are out of bounds, not small") {
    checked x;
    x.use({{0, 0, 8, 3, ~0ull / 2, 8}});
    CHECK(has(x.verdict(), "source pool 0: slot 7 ends at byte 18446744073709551615"));
    x.use({{0, ~0ull - 3, 8, 1, 0, 0}});
    CHECK(has(x.verdict(), "target pool 0: slot 7 ends at byte 18446744073709551615"));
}
