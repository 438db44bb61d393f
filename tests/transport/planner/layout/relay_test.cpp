// SPDX-License-Identifier: Apache-2.0
// Who shares one copy over the slow link, which of them it lands at, and that what it hands on is
// all that the others need.
#include "tests/support/planner_ranks.hpp"
#include "tests/support/shared_part.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/plan/plan.hpp"

#include <map>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::vector<rank_info> on_machine(std::vector<rank_info> ranks, const std::string& machine) {
    for (auto& rank : ranks) {
        rank.machine = machine;
        rank.capabilities =
            capability::optional_messages | capability::relayed_requests | capability::relays;
    }
    return ranks;
}

std::vector<rank_info> context() {
    auto result = on_machine(make_instance("ctx", {2}, small_format(attention_kind::mla)), "a");
    for (auto& rank : result)
        rank.capabilities &= ~capability::relays; // it only lets others
    return result;
}

std::vector<rank_info> generation(split x, attention_kind kind = attention_kind::mla) {
    return on_machine(make_instance("gen", x, small_format(kind)), "b");
}

std::vector<std::uint32_t> group_of(const std::vector<rank_info>& own, std::size_t self,
                                    const std::vector<rank_info>& from = context()) {
    for (const auto& each : shared_among(own[self], own, from))
        if (each.concerns(own[self].rank) && each.views.empty())
            return numbers(each.ranks);
    return {};
}

using list_of_ranks = std::vector<std::uint32_t>;

} // namespace

TEST_CASE("relay: all ranks that hold the same bytes of one machine are one group, and say so") {
    const auto mla = generation({4});
    for (std::size_t self = 0; self < mla.size(); ++self)
        CHECK(group_of(mla, self) == list_of_ranks{0, 1, 2, 3});
    const auto stages = generation({2, 2});
    CHECK(group_of(stages, 0) == list_of_ranks{0, 1});
    CHECK(group_of(stages, 3) == list_of_ranks{2, 3});
    const auto gqa = generation({4}, attention_kind::gqa); // 2 heads, so each on two ranks
    CHECK(group_of(gqa, 0) == list_of_ranks{0, 1});
    CHECK(group_of(gqa, 2) == list_of_ranks{2, 3});
    CHECK(group_of(generation({2}, attention_kind::gqa), 0).empty());
    CHECK(group_of(generation({2, 1, 1, true}), 0).empty()); // groups of attention DP share nothing
}

TEST_CASE("relay: none where a rank cannot, the context is near, or nobody says where it is") {
    auto own = generation({4});
    auto from = context();
    SUBCASE("one is on another machine") {
        own[1].machine = "c";
        CHECK(group_of(own, 0, from) == list_of_ranks{0, 2, 3});
        CHECK(group_of(own, 1, from).empty());
    }
    SUBCASE("one does not take part") {
        own[2].capabilities &= ~capability::relays;
        CHECK(group_of(own, 0, from) == list_of_ranks{0, 1, 3});
        CHECK(group_of(own, 2, from).empty());
    }
    SUBCASE("a context rank does not know of it") {
        from[1].capabilities = capability::optional_messages;
        CHECK(group_of(own, 0, from).empty());
    }
    SUBCASE("a context rank is on the same machine") {
        from[1].machine = "b";
        CHECK(group_of(own, 0, from).empty());
    }
    SUBCASE("no machine is known") {
        for (auto& rank : own)
            rank.machine.clear();
        CHECK(group_of(own, 0, from).empty());
    }
}

TEST_CASE("relay: caches that differ in more than their replica are not the same, and a state that "
          "its owner changes is never handed on") {
    const auto own = generation({2});
    CHECK(are_replicas(own[0], own[1]));
    auto other = own[1];
    SUBCASE("more slots, another region") {
        other.pages->pools[0].slot_count += 5;
        other.pages->pools[0].region = 1;
        CHECK(are_replicas(own[0], other));
    }
    SUBCASE("block size") {
        *other.pages->groups[0].tokens_per_slot += 1;
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("layers") {
        other.pages->groups[0].layers[0] += 100;
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("shard") {
        other.pages->groups[0].views[0].layout.shard_index += 1;
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("element type") {
        other.pages->groups[0].views[0].layout.element_type = "fp8_e4m3";
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("offsets in a slot") {
        other.pages->groups[0].views[0].entries[0].offset_bytes += 16;
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("no pages") {
        other.pages.reset();
        CHECK_FALSE(are_replicas(own[0], other));
    }
    SUBCASE("recurrent state on both") {
        auto one = own[0];
        one.pages->groups[0].tokens_per_slot.reset();
        other.pages->groups[0].tokens_per_slot.reset();
        CHECK_FALSE(are_replicas(one, other));
    }
}

namespace {

/// Heads of the default cache, and beside them in each slot a latent that all ranks hold alike.
std::vector<rank_info> heads_and_latents(split x) {
    return relaying_on(with_latents(generation(x, attention_kind::gqa)), "b");
}

std::vector<rank_info> able(std::vector<rank_info> ranks) {
    for (auto& rank : ranks)
        rank.capabilities |= capability::parts;
    return ranks;
}

} // namespace

TEST_CASE("relay: each part of a cache is shared by the ranks that hold it alike") {
    const auto own = heads_and_latents({4}); // 2 heads, so each on two ranks
    const auto shared = shared_among(own[2], own, able(context()));
    CHECK(shared
          == std::vector<shared_views>{
              {{{0}, {1}}, {heads}}, {{{0}, {1}, {2}, {3}}, {latent}}, {{{2}, {3}}, {heads}}});
    CHECK(views_outside(own[2], shared).empty());
    const auto two = heads_and_latents({2}); // a head of its own on each
    const auto latents = shared_among(two[0], two, able(context()));
    CHECK(latents == std::vector<shared_views>{{{{0}, {1}}, {latent}}});
    CHECK(views_outside(two[0], latents) == std::vector<view_place>{heads});
    const auto mla = able(generation({2}));
    CHECK(shared_among(mla[0], mla, able(context()))
          == std::vector<shared_views>{{{{0}, {1}}, {}}}); // all that they hold
}

TEST_CASE("relay: in parts only where all of them know parts; else ranks that share all") {
    const auto own = heads_and_latents({2});
    CHECK(shared_among(own[0], own, context()).empty());
    auto old = own;
    old[1].capabilities &= ~capability::parts;
    CHECK(shared_among(own[0], old, able(context())).empty());
    const auto pairs = generation({4}, attention_kind::gqa);
    CHECK(shared_among(pairs[0], pairs, context())
          == std::vector<shared_views>{{{{0}, {1}}, {}}, {{{2}, {3}}, {}}});
}

TEST_CASE("relay: a recurrent state stays with its owner, the rest of the cache is shared") {
    auto own = heads_and_latents({2});
    for (auto& rank : own) {
        layer_group state;
        state.layers = {100};
        pool_view view = rank.pages->groups[0].views[1];
        view.entries.resize(1);
        view.roles = {"state"};
        state.views = {view};
        rank.pages->groups.push_back(std::move(state));
    }
    const auto shared = shared_among(own[0], own, able(context()));
    CHECK(shared == std::vector<shared_views>{{{{0}, {1}}, {latent}}});
    CHECK(views_outside(own[0], shared) == std::vector<view_place>{heads, {1, 0}});
}

TEST_CASE("relay: what is handed on of a part fills that part of the other one and nothing else") {
    const auto own = heads_and_latents({2});
    CHECK(are_replicas(own[0], own[1], {latent}));
    CHECK_FALSE(are_replicas(own[0], own[1], {heads}));
    CHECK_FALSE(are_replicas(own[0], own[1], {{0, 2}}));
    CHECK_FALSE(are_replicas(own[0], own[1]));
    plan_cache cache;
    const kv_slice source{{0, 8}, 8, {{0, {5, 6}}}, true};
    const kv_slice target{{0, 8}, 8, {{0, {2, 3}}}, true};
    const auto plan = make_plan(in_place_of(own[1], own[0], {latent}), source,
                                with_views(own[1], {latent}), target, cache);
    REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
    CHECK(plan->bytes == 2 * 4 * 64);
    CHECK(with_views(own[1], {}) == own[1]);
}

TEST_CASE("relay: requests are spread over the ranks of a group, whatever their numbers") {
    const std::vector<rank_id> group{{0}, {1}, {4}, {7}};
    for (std::uint64_t stride : {1, 2, 4, 1024}) {
        CAPTURE(stride);
        std::map<rank_id, int> landings;
        for (std::uint64_t request = 1; request <= 4000; ++request)
            ++landings[landing_rank(group, rid{request * stride})];
        CHECK(landings.size() == 4);
        for (const auto& [rank, count] : landings) {
            CHECK(count > 900);
            CHECK(count < 1100);
        }
    }
}

TEST_CASE("relay: the digest names the processes of the context, in order") {
    auto from = context();
    const auto before = relay_digest(from);
    CHECK(before == relay_digest(context()));
    from[1].incarnation.value += 1;
    CHECK(before != relay_digest(from));
    CHECK(relay_digest({}) != 0);
}

TEST_CASE(
    "relay: what one replica hands on fills another one whole, though their ranks never meet") {
    for (auto kind : {attention_kind::mla, attention_kind::gqa}) {
        auto own = generation({4}, kind);
        own[1].pages->pools[0].slot_count = 64;
        plan_cache cache;
        const kv_slice source{{0, 10}, 10, {{0, {5, 6, 7}}}, true};
        const kv_slice target{{0, 10}, 10, {{1, {2, 3}}}, true}; // it has the first block already
        const auto plan = make_plan(in_place_of(own[1], own[0]), source, own[1], target, cache);
        REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
        REQUIRE(plan->parts.size() == 1);
        CHECK(plan->parts[0].slots == slot_list{slot_pair{6, 2}, slot_pair{7, 3}});
        CHECK(plan->bytes == 2 * own[1].pages->pools[0].slot_bytes);
    }
}
