// SPDX-License-Identifier: Apache-2.0
// Cohorts: which ranks belong to them, and what cohorts_of refuses.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/cohorts.hpp"

#include <optional>

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

std::optional<caf::error> refused_with(const rank_info& receiver,
                                       const std::vector<rank_info>& context,
                                       allow_missing allowed) {
    auto found = cohorts_of(receiver, context, 0, allowed);
    return found ? std::nullopt : std::optional{found.error()};
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

TEST_CASE("cohorts: a layer that only the receiver has is refused, unless its host consents") {
    // One side has one more speculative layer.
    const auto larger = make_instance("ctx", {1, 2, 1, false, {2, 3}}, small_format(5));
    const auto smaller = make_instance("gen", {1, 2, 1, false, {2, 2}}, small_format(4));
    CHECK(cohorts_of(smaller[1], larger, 0)->kv == std::vector{rank_id{1}});
    CHECK(cohorts_of(smaller[1], larger, 0)->layers_skipped.empty());
    const auto error = refusal(larger[1], smaller);
    CHECK(code_of(error) == errc::layout_mismatch);
    CHECK(says(error, "layers: receiver ctx/1 has 2-4, the writers have 0-3: nobody would fill 4"));
    CHECK(code_of(*refused_with(larger[1], smaller, {.roles = true})) == errc::layout_mismatch);
    const auto found = cohorts_of(larger[1], smaller, 0, {.layers = true});
    REQUIRE(found);
    CHECK(found->kv == std::vector{rank_id{1}});
    CHECK(found->layers_skipped == std::vector<std::uint32_t>{4});
    CHECK(found->roles_skipped.empty());
}

TEST_CASE("cohorts: global layers that meet no writer's, or only some of them, are refused") {
    auto shifted = [](std::uint32_t first) {
        auto format = small_format();
        format.first_layer = first;
        return make_instance("gen", {1}, format);
    };
    const auto context = make_instance("ctx", {2}, small_format());
    auto error = refusal(shifted(100)[0], context);
    CHECK(code_of(error) == errc::layout_mismatch);
    CHECK(
        says(error, "receiver gen/0 has 100-103, the writers have 0-3: nobody would fill 100-103"));
    error = refusal(shifted(2)[0], context);
    CHECK(code_of(error) == errc::layout_mismatch);
    CHECK(says(error, "receiver gen/0 has 2-5, the writers have 0-3: nobody would fill 4-5"));
    const auto nothing = cohorts_of(shifted(100)[0], context, 0, {.layers = true});
    REQUIRE(nothing);
    CHECK(nothing->kv.empty());
    CHECK(nothing->aux == std::vector{rank_id{0}});
    CHECK(nothing->layers_skipped == std::vector<std::uint32_t>{100, 101, 102, 103});
    const auto some = cohorts_of(shifted(2)[0], context, 0, {.layers = true});
    REQUIRE(some);
    CHECK(some->kv == std::vector{rank_id{0}, rank_id{1}});
    CHECK(some->layers_skipped == std::vector<std::uint32_t>{4, 5});
}

TEST_CASE(
    "cohorts: roles that no writer has under this name are refused, unless the host consents") {
    const auto context = make_instance("ctx", {1}, small_format());
    auto generation = make_instance("gen", {1}, small_format());
    auto& views = generation[0].pages->groups[0].views;
    std::vector<std::string> skipped;
    std::vector<rank_id> writers;
    SUBCASE("kv packed into one buffer against key and value") {
        views[0].roles = {"kv"};
        skipped = {"kv"};
    }
    SUBCASE("an indexer cache on one side only, beside key and value") {
        auto indexer = views[0];
        indexer.roles = {"indexer_k"};
        indexer.pool = 1;
        views.push_back(indexer);
        generation[0].pages->pools.push_back(generation[0].pages->pools[0]);
        skipped = {"indexer_k"};
        writers = {rank_id{0}};
    }
    const auto error = refusal(generation[0], context);
    CHECK(code_of(error) == errc::layout_mismatch);
    CHECK(says(error, "roles: receiver gen/0 has [\"" + skipped[0]
                          + "\"] in layers 0-3, the writers "
                            "have [\"key\", \"value\"] there"));
    CHECK(refused_with(generation[0], context, {.layers = true}));
    const auto found = cohorts_of(generation[0], context, 0, {.roles = true});
    REQUIRE(found);
    CHECK(found->kv == writers);
    CHECK(found->roles_skipped == skipped);
    CHECK(found->layers_skipped.empty());
}

TEST_CASE("cohorts: K and V packed into one buffer do not pair with K and V apart, with or without "
          "consent") {
    const auto context = make_instance("ctx", {1}, small_format());
    auto generation = make_instance("gen", {1}, small_format());
    auto& view = generation[0].pages->groups[0].views[0];
    std::vector<buffer_entry> packed;
    for (std::size_t index = 0; index < view.entries.size(); index += 2) {
        packed.push_back(view.entries[index]);
        packed.back().bytes *= 2;
    }
    view.entries = packed;
    for (auto consent : {allow_missing{}, allow_missing{true, true}}) {
        const auto error = refused_with(generation[0], context, consent);
        REQUIRE(error);
        CHECK(code_of(*error) == errc::layout_mismatch);
    }
}

TEST_CASE("cohorts: what one CP rank of the context lacks is missing from its blocks") {
    auto context = make_instance("ctx", {1, 1, 2}, small_format());
    const auto generation = make_instance("gen", {1}, small_format());
    CHECK(cohorts_of(generation[0], context, 0));
    auto& group = context[1].pages->groups[0];
    group.layers.pop_back();
    group.views[0].entries.resize(6); // K and V of three layers
    const auto error = refused_with(generation[0], context, {true, true});
    REQUIRE(error);
    CHECK(code_of(*error) == errc::layout_mismatch);
    CHECK(says(*error, "layer 3 of gen/0"));
    CHECK(says(*error, "on CP rank 0 of the context, but not on 1"));
}

TEST_CASE(
    "cohorts: hosts that name different models do not transfer, whatever the bytes look like") {
    auto context = make_instance("ctx", {2}, small_format());
    auto generation = make_instance("gen", {1}, small_format());
    context[1].fingerprint = "llama rev 1";
    CHECK(cohorts_of(generation[0], context, 0)); // empty: not compared
    generation[0].fingerprint = "llama rev 2";
    const auto error = refused_with(generation[0], context, {true, true});
    REQUIRE(error);
    CHECK(code_of(*error) == errc::layout_mismatch);
    CHECK(says(*error, "writer ctx/1 has \"llama rev 1\", receiver gen/0 has \"llama rev 2\""));
    generation[0].fingerprint = context[1].fingerprint;
    CHECK(cohorts_of(generation[0], context, 0));
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
