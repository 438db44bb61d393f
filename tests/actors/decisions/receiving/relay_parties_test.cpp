// SPDX-License-Identifier: Apache-2.0
// Who lands what for whom, and which context ranks are asked for what at once.
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/shared_part.hpp"

#include <algorithm>
#include <map>
#include <set>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct two_instances {
    std::vector<rank_info> context;
    std::vector<rank_info> generation;

    two_instances(split from, split to, attention_kind kind, bool latents)
        : context(make_instance("ctx", from, small_format(kind))),
          generation(make_instance("gen", to, small_format(kind))) {
        if (latents) {
            context = with_latents(std::move(context));
            generation = with_latents(std::move(generation));
        }
        context = relaying_on(std::move(context), "a");
        generation = relaying_on(std::move(generation), "b");
    }

    bind_writers bound(std::size_t rank, rid request, aux_mode aux = aux_mode::none) const {
        const auto& self = generation[rank];
        const auto parties = parties_of(self, generation, context, 0, aux);
        REQUIRE(parties);
        bind_writers result{parties->writers, {}};
        bind_relay(result, *parties, self, generation, context, request, aux);
        return result;
    }
};

/// Which views of a rank come at once from the context, and which from siblings.
std::multiset<view_place> views_that_come(const bind_writers& x, const rank_info& self) {
    std::multiset<view_place> result;
    const auto add = [&](const std::vector<view_place>& views) {
        result.insert(views.begin(), views.end());
        for (std::uint32_t view = 0; views.empty() && view < self.pages->groups[0].views.size();
             ++view)
            result.insert({0, view});
    };
    std::set<std::vector<view_place>> at_once; // several ranks have a part of them
    for (const auto& each : x.writers)
        if (each.kv && !each.held_back)
            at_once.insert(each.views);
    for (const auto& each : at_once)
        add(each);
    if (x.relay)
        for (const auto& each : x.relay->from)
            add(each.views);
    return result;
}

} // namespace

TEST_CASE("relay parties: every view of every rank comes once, from the context or from a sibling "
          "where it lands") {
    for (auto to : {2U, 4U}) {
        const two_instances x{{2}, {to}, attention_kind::gqa, true};
        for (std::uint64_t request = 1; request <= 16; ++request) {
            CAPTURE(to);
            CAPTURE(request);
            std::map<view_place, std::set<std::size_t>> landings;
            for (std::size_t rank = 0; rank < to; ++rank) {
                const auto bound = x.bound(rank, {request});
                REQUIRE(bound.relay);
                CHECK(views_that_come(bound, x.generation[rank])
                      == std::multiset<view_place>{heads, latent});
                for (const auto& from : bound.relay->from) {
                    const auto there = x.bound(from.rank.value, {request});
                    REQUIRE(there.relay);
                    CHECK(there.relay->hands_on);
                    for (const auto& view : from.views)
                        CHECK(std::count(there.relay->views.begin(), there.relay->views.end(), view)
                              == 1);
                    // It is to wait for all that take something there.
                    for (const auto taker : from.receivers) {
                        const auto other = x.bound(taker.value, {request});
                        CHECK(
                            std::any_of(other.relay->from.begin(), other.relay->from.end(),
                                        [&](const auto& each) { return each.rank == from.rank; }));
                    }
                }
                for (const auto& view : bound.relay->views)
                    landings[view].insert(rank);
            }
            CHECK(landings[latent].size() == 1);
            CHECK(landings[heads].size() == (to == 4 ? 2 : 0));
        }
    }
}

TEST_CASE("relay parties: a rank that shares a part asks each context rank for its own part, and "
          "holds back the rest") {
    const two_instances x{{1}, {2}, attention_kind::gqa, true};
    for (std::uint64_t request = 1; request <= 8; ++request) {
        const auto lands_at_0 = x.bound(0, {request}).relay->hands_on;
        const auto taker = x.bound(lands_at_0 ? 1 : 0, {request}, aux_mode::required);
        REQUIRE(taker.writers.size() == 2);
        const auto& own = taker.writers[0];
        const auto& rest = taker.writers[1];
        CHECK((own.in_parts && own.kv && own.aux && !own.held_back));
        CHECK(own.views == std::vector{heads});
        CHECK((rest.in_parts && rest.kv && !rest.aux && rest.held_back));
        CHECK(rest.views == std::vector{latent});
        CHECK_FALSE(taker.relay->from.at(0).aux);
        const auto lander = x.bound(lands_at_0 ? 0 : 1, {request});
        REQUIRE(lander.writers.size() == 1);
        CHECK((!lander.writers[0].in_parts && lander.writers[0].views.empty()));
    }
}

TEST_CASE(
    "relay parties: with all that it needs a rank takes the record from its sibling as well") {
    const two_instances x{{2}, {4}, attention_kind::mla, false};
    const auto landing = landing_rank({{0}, {1}, {2}, {3}}, {7});
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
        const auto bound = x.bound(rank, {7}, aux_mode::required);
        REQUIRE(bound.relay);
        CHECK(bound.relay->hands_on == (rank_id{rank} == landing));
        if (bound.relay->hands_on) {
            CHECK(bound.relay->from.empty());
            continue;
        }
        REQUIRE(bound.relay->from.size() == 1);
        CHECK(bound.relay->from[0].rank == landing);
        CHECK(bound.relay->from[0].aux);
        CHECK(bound.relay->from[0].views.empty());
        CHECK(bound.relay->from[0].receivers.size() == 3);
        for (const auto& each : bound.writers)
            CHECK((each.held_back && !each.in_parts && each.views.empty()));
    }
}

TEST_CASE("relay parties: pieces are told where blocks are of one size") {
    two_instances x{{1}, {2}, attention_kind::mla, false};
    CHECK(x.bound(0, {7}).writers[0].tells_extents);
    auto format = small_format(attention_kind::mla);
    format.tokens_per_block = 8;
    x.context = relaying_on(make_instance("ctx", {1}, format), "a");
    CHECK_FALSE(x.bound(0, {7}).writers[0].tells_extents);
    x.context = relaying_on(make_instance("ctx", {1}, small_format(attention_kind::mla)), "a");
    x.context[0].capabilities &= ~capability::parts;
    CHECK_FALSE(x.bound(0, {7}).writers[0].tells_extents);
}
