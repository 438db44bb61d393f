// SPDX-License-Identifier: Apache-2.0
// Who takes part in a transfer, who must be told that it does not, and which layers are not sent.
#include "actors/decisions/receiving/transfer_parties.hpp"
#include "tests/support/planner_ranks.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format format_of(std::uint32_t layers, attention_kind kind = attention_kind::gqa) {
    cache_format result;
    result.layers = layers;
    result.kv_heads = 4;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    result.kind = kind;
    return result;
}

transfer_parties parties(const std::vector<rank_info>& generation, std::size_t rank,
                         const std::vector<rank_info>& context, allow_missing allowed = {}) {
    auto found = parties_of(generation[rank], generation, context, 0, aux_mode::required, allowed);
    REQUIRE(found);
    return std::move(*found);
}

} // namespace

TEST_CASE("parties: layers that only the own side has are refused; with consent they are listed, "
          "and have no writer") {
    const auto context = make_instance("ctx", {1, 2, 1, false, {2, 2}}, format_of(4));
    const auto generation = make_instance("gen", {1, 2, 1, false, {2, 3}}, format_of(5));
    CHECK(parties(generation, 0, context).layers_skipped.empty());
    const auto refused = parties_of(generation[1], generation, context, 0, aux_mode::required);
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::layout_mismatch);
    const auto last = parties(generation, 1, context, {.layers = true});
    CHECK(last.layers_skipped == std::vector<std::uint32_t>{4});
    REQUIRE(last.writers.size() == 1);
    CHECK(last.writers[0].rank == rank_id{1});
    // In the other direction the context has a layer without a receiver. That is not reported.
    CHECK(parties(context, 1, generation).layers_skipped.empty());
}

TEST_CASE(
    "parties: the first rank of a group tells the context ranks that no rank of the group asks") {
    // MLA: every context rank holds the same bytes, one of them serves the only receiver.
    const auto context = make_instance("ctx", {4}, format_of(4, attention_kind::mla));
    const auto generation = make_instance("gen", {2}, format_of(4, attention_kind::mla));
    std::vector<rank_id> reached;
    for (std::size_t rank = 0; rank < 2; ++rank)
        for (const auto& writer : parties(generation, rank, context).writers)
            reached.push_back(writer.rank);
    auto told = parties(generation, 0, context).bystanders;
    CHECK(parties(generation, 1, context).bystanders.empty());
    for (std::uint32_t rank = 0; rank < 4; ++rank) {
        INFO("context rank ", rank);
        const bool writes = std::count(reached.begin(), reached.end(), rank_id{rank}) > 0;
        CHECK(std::count(told[0].begin(), told[0].end(), rank_id{rank}) == (writes ? 0 : 1));
    }
}

TEST_CASE("parties: without a DP rank they are those of every group, in the order of the groups") {
    const auto context = make_instance("ctx", {4, 2, 1, true}, format_of(4));
    const auto generation = make_instance("gen", {2, 2}, format_of(4));
    for (const auto& self : generation) {
        auto all = parties_of(self, generation, context, std::nullopt, aux_mode::required);
        REQUIRE(all);
        auto next = all->writers.begin();
        for (std::uint32_t group = 0; group < 4; ++group) {
            auto one = parties_of(self, generation, context, group, aux_mode::required);
            REQUIRE(one);
            CHECK(one->bystanders[group] == all->bystanders[group]);
            for (const auto& writer : one->writers) {
                REQUIRE(next != all->writers.end());
                CHECK(next->rank == writer.rank);
                CHECK(next->dp_rank == group);
                CHECK(next->receivers == writer.receivers);
                ++next;
            }
        }
        CHECK(next == all->writers.end());
    }
}
