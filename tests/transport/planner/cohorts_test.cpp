// SPDX-License-Identifier: Apache-2.0
// Cohorts: which ranks belong to them, and what cohorts_of refuses.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/cohorts.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format small_format(std::uint32_t layers = 4) {
    cache_format result;
    result.layers = layers;
    result.kv_heads = 4;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    return result;
}

caf::error refusal(const rank_info& receiver, const std::vector<rank_info>& context,
                   std::uint32_t context_dp = 0) {
    auto found = cohorts_of(receiver, context, context_dp);
    REQUIRE_FALSE(found);
    return found.error();
}

bool says(const caf::error& error, std::string_view what) {
    INFO(text_of(error));
    return text_of(error).find(what) != std::string::npos;
}

} // namespace

TEST_CASE("cohorts: the aux writer need not carry KV, and then reports nothing else") {
    // MLA: the replicas take turns by DP rank; the aux record always comes from the first of them.
    auto format = small_format();
    format.kind = attention_kind::mla;
    const auto context = make_instance("ctx", {2}, format);
    const auto generation = make_instance("gen", {2, 1, 1, true}, format);
    const auto found = cohorts_of(generation[1], context, 0);
    REQUIRE(found);
    CHECK(*found == cohorts{{rank_id{1}}, {rank_id{0}}});
    CHECK(numbers(receivers_of(context[0], generation, 1, true)) == std::vector<std::uint32_t>{1});
    CHECK(receivers_of(context[0], generation, 1, false).empty());
}

TEST_CASE("cohorts: a stage without layers for the receiver is in neither cohort") {
    const auto context = make_instance("ctx", {1, 4}, small_format());
    const auto generation = make_instance("gen", {1, 2}, small_format());
    const auto found = cohorts_of(generation[1], context, 0);
    REQUIRE(found);
    CHECK(*found == cohorts{{rank_id{2}, rank_id{3}}, {rank_id{2}}});
}

TEST_CASE("cohorts: only ranks of the DP group that runs the request are asked") {
    const auto context = make_instance("ctx", {4, 1, 1, true}, small_format());
    const auto generation = make_instance("gen", {2}, small_format());
    const auto found = cohorts_of(generation[1], context, 2);
    REQUIRE(found);
    CHECK(*found == cohorts{{rank_id{2}}, {rank_id{2}}});
    const auto error = refusal(generation[0], context, 4);
    CHECK(code_of(error) == errc::invalid_argument);
    CHECK(says(error, "context DP rank 4: instance ctx has 4"));
}

TEST_CASE("cohorts: under helix the ranks that share the blocks ask the same writers") {
    const auto context = make_instance("ctx", {2}, small_format());
    const auto generation = make_instance("gen", {1, 1, 2}, small_format());
    for (const auto& receiver : generation) {
        const auto found = cohorts_of(receiver, context, 0);
        REQUIRE(found);
        CHECK(*found == cohorts{{rank_id{0}, rank_id{1}}, {rank_id{0}}});
    }
}

TEST_CASE("cohorts: layers that only one side has are not waited for") {
    // The context has one more speculative layer; then the other way round.
    const auto larger = make_instance("ctx", {1, 2, 1, false, {2, 3}}, small_format(5));
    const auto smaller = make_instance("gen", {1, 2, 1, false, {2, 2}}, small_format(4));
    CHECK(cohorts_of(smaller[1], larger, 0)->kv == std::vector{rank_id{1}});
    CHECK(cohorts_of(larger[1], smaller, 0)->kv == std::vector{rank_id{1}});
    CHECK(cohorts_of(smaller[1], larger, 0)->layers_skipped.empty());
    CHECK(cohorts_of(larger[1], smaller, 0)->layers_skipped == std::vector<std::uint32_t>{4});
}

TEST_CASE("cohorts: a rank without page table is refused by name") {
    auto context = make_instance("ctx", {2}, small_format());
    const auto generation = make_instance("gen", {1}, small_format());
    context[1].pages.reset();
    const auto error = refusal(generation[0], context);
    CHECK(code_of(error) == errc::missing_layout);
    CHECK(says(error, "ctx/1"));
    CHECK_FALSE(should_send_kv(context[1], generation[0]));
}

TEST_CASE("cohorts: a cohort that would miss or repeat a shard is refused") {
    const auto generation = make_instance("gen", {1}, small_format());
    SUBCASE("two ranks say that they are the same shard") {
        auto context = make_instance("ctx", {2}, small_format());
        context[1].pages->groups[0].views[0].layout.shard_index = 0;
        const auto error = refusal(generation[0], context);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK(says(error, "rank info of ctx/1: layer 0 for gen/0 would come from rank 0 as well"));
    }
    SUBCASE("a rank says that it is a replica whose turn never comes") {
        auto context = make_instance("ctx", {2}, small_format());
        context[1].pages->groups[0].views[0].layout.num_replicas = 2;
        context[1].pages->groups[0].views[0].layout.replica_index = 1;
        const auto error = refusal(generation[0], context);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK(says(error, "layer 0 of gen/0: the context's ranks hold 1 of the 2 shards"));
    }
}

TEST_CASE("cohorts: a layer of which the context has K and not V is refused") {
    // The context claims to have K only, in buffers of the right size.
    auto context = make_instance("ctx", {1}, small_format());
    const auto generation = make_instance("gen", {1}, small_format());
    auto& view = context[0].pages->groups[0].views[0];
    view.roles = {"key"};
    std::vector<buffer_entry> keys;
    for (std::size_t index = 0; index < view.entries.size(); index += 2)
        keys.push_back(view.entries[index]);
    view.entries = keys;
    const auto error = refusal(generation[0], context);
    CHECK(code_of(error) == errc::layout_mismatch);
    CHECK(says(error, "some of its roles [\"key\", \"value\"], but not number 1"));
}

TEST_CASE("cohorts: an incomplete or mixed list of context ranks is refused") {
    const auto whole = make_instance("ctx", {2, 2}, small_format());
    const auto generation = make_instance("gen", {1}, small_format());
    SUBCASE("none") {
        CHECK(says(refusal(generation[0], {}), "no ranks"));
    }
    SUBCASE("one is missing") {
        auto context = whole;
        context.pop_back();
        CHECK(says(refusal(generation[0], context), "world_size is 4, 3 ranks are listed"));
    }
    SUBCASE("one is there twice") {
        auto context = whole;
        context[3] = context[2];
        CHECK(says(refusal(generation[0], context), "ctx/2: it is listed twice"));
    }
    SUBCASE("one is of another instance") {
        auto context = whole;
        context[3].instance = "other";
        CHECK(says(refusal(generation[0], context), "other/3: it is not split like ctx/0"));
    }
    SUBCASE("no stage has a layer of the receiver") {
        auto far = make_instance("gen", {1, 2, 1, false, {4, 1}}, small_format(5));
        CHECK(says(refusal(far[1], whole), "layers_per_stage"));
    }
}
