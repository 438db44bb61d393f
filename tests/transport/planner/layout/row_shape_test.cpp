// SPDX-License-Identifier: Apache-2.0
// Rows with gaps, rows of several tokens, and tokens that CP ranks deal out: what must be refused,
// and what goes together.
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/plan/pair_layout.hpp"
#include "transport/planner/plan/plan.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

pool_view& view_of(rank_info& rank) {
    return rank.pages->groups[0].views[0];
}

/// K of one layer: 2 heads of 4 tokens of 16 bytes. With V between its rows they are 32 bytes
/// apart.
rank_info rank_with_gaps(const char* name, std::uint32_t cp = 1, std::uint32_t cp_rank = 0) {
    cache_format format;
    format.layers = 1;
    format.kv_heads = 2;
    format.head_dim = 8;
    format.tokens_per_block = 4;
    auto result = make_instance(name, {1, 1, cp}, format)[cp_rank];
    auto& view = view_of(result);
    view.roles = {"key"};
    view.entries.resize(1);
    view.layout.row_stride_bytes = 32;
    view.layout.head_stride_bytes = 128;
    return result;
}

/// The same without gaps.
rank_info dense_rank(const char* name, std::uint32_t cp = 1, std::uint32_t cp_rank = 0) {
    auto result = rank_with_gaps(name, cp, cp_rank);
    view_of(result).layout.row_stride_bytes = 0;
    view_of(result).layout.head_stride_bytes = 0;
    return result;
}

/// CP rank `index` of two holds every other token: 4 of the 8 of a block.
rank_info dealt_rank(const char* name, std::uint32_t index) {
    auto result = dense_rank(name, 2, index);
    result.pages->groups[0].tokens_per_slot = 8;
    view_of(result).layout.tokens_per_row = 2;
    view_of(result).layout.token_of_row = index;
    return result;
}

std::string refusal(const rank_info& writer, const rank_info& receiver) {
    return text_of_error([&] {
        auto made = match_layouts(writer, receiver);
        return made ? caf::error{} : made.error();
    }());
}

} // namespace

TEST_CASE("row_shape: a page table with rows that cannot be is refused") {
    CHECK_FALSE(check_page_table(rank_with_gaps("x")));
    struct mistake {
        void (*make)(layer_group&, role_layout&);
        const char* text;
    };
    for (auto [make, text] : {
             mistake{[](auto&, auto&x) { x.tokens_per_row = 0; }, "of tokens_per_row 0"},
             mistake{[](auto&, auto&x) { x.token_of_row = 1; },
                     "token_of_row 1 of tokens_per_row 1"},
             mistake{[](auto&, auto&x) { x.tokens_per_row = 3; },
                     "tokens_per_slot 4 is not a multiple of tokens_per_row 3"},
             mistake{[](auto&, auto&x) { x.row_stride_bytes = ~0ull; }, "row_stride_bytes 1844"},
             mistake{[](auto&, auto&x) { x.head_stride_bytes = ~0ull; }, "and head_stride_bytes 1"},
             mistake{[](auto&, auto&x) { x.row_stride_bytes = 15; }, "share bytes"},
             mistake{[](auto&, auto&x) { x.head_stride_bytes = 127; }, "share bytes"},
             mistake{[](auto&, auto&x) { x.row_stride_bytes = 1ull << 47; }, "share bytes"},
             mistake{[](auto&, auto&x) { x.head_stride_bytes = 0, x.row_stride_bytes = 200; },
                     "crosses the slot stride of 256 bytes"},
             mistake{[](auto&, auto&x) { x.head_stride_bytes = 150; },
                     "crosses the slot stride of 256 bytes"},
             mistake{[](auto&, auto&x) { x.shard_unit_bytes = 48; }, "is not made of 4 rows"},
             mistake{[](auto&group, auto&x) {
                         group.tokens_per_slot.reset();
                         x.kind = mapper_kind::hnd;
                     },
                     "rows of tokens in a hnd view with tokens_per_slot none"},
             mistake{[](auto&group, auto&) {
                         group.views[0].entries = {{0, 0, 64}, {0, 100, 64}};
                         group.views[0].roles = {"key", "value"};
                     },
                     "overlaps or precedes the entry before it"},
         }) {
        auto rank = rank_with_gaps("x");
        make(rank.pages->groups[0], view_of(rank).layout);
        const auto error = check_page_table(rank);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK_MESSAGE(contains(text_of(error), text), text_of(error));
    }
}

TEST_CASE("row_shape: rows with gaps are cut as both sides know them, or refused") {
    CHECK(refusal(rank_with_gaps("ctx"), dense_rank("gen")) == "");
    auto without_unit = dense_rank("gen");
    view_of(without_unit).layout.shard_unit_bytes.reset();
    CHECK(contains(refusal(rank_with_gaps("ctx"), without_unit),
                   "shard_unit_bytes (needed to split heads)"));
    auto writer = rank_with_gaps("ctx");
    auto receiver = dense_rank("gen");
    for (auto* side : {&writer, &receiver})
        view_of(*side).layout.element_shape.clear();
    CHECK(contains(refusal(writer, receiver), "without element_shape a block is not cut"));
    const auto made = make_pair_layout(rank_with_gaps("ctx"), dense_rank("gen"));
    REQUIRE(made);
    REQUIRE(made->size() == 1);
    // 8 rows; those of the second head go on where the first ends.
    CHECK(*made->front().pieces.front().layout == copy_template{{{0, 0, 16, 8, 32, 16}}, 128, 8});
}

TEST_CASE("row_shape: rows of several tokens go to rows of as many") {
    auto writer = dense_rank("ctx");
    auto receiver = dense_rank("gen");
    view_of(writer).layout.tokens_per_row = 2;
    CHECK(contains(refusal(writer, receiver),
                   "tokens_per_row (tokens in one row are not separated)"));
    view_of(receiver).layout.tokens_per_row = 2;
    CHECK(refusal(writer, receiver) == "");
    view_of(receiver).layout.tokens_per_row = 4;
    CHECK(contains(refusal(writer, receiver), "writer ctx/0 has 2, receiver gen/0 has 4"));
}

TEST_CASE("row_shape: CP ranks that deal out tokens have a part of every block") {
    const auto writer = dealt_rank("ctx", 1);
    CHECK(refusal(writer, dealt_rank("gen", 1)) == "");
    const auto apart = make_pair_layout(dealt_rank("ctx", 0), dealt_rank("gen", 1));
    REQUIRE(apart);
    CHECK(apart->empty());
    std::vector<rank_info> swapped{dealt_rank("ctx", 0), dealt_rank("ctx", 1)};
    view_of(swapped[0]).layout.token_of_row = 1;
    view_of(swapped[1]).layout.token_of_row = 0;
    const auto none = cohorts_of(dealt_rank("gen", 0), swapped, 0);
    REQUIRE_FALSE(none);
    CHECK(contains(text_of_error(none.error()), "hold 0 of the 1 shards"));
    auto all_tokens = dense_rank("gen", 2, 1);
    CHECK(refusal(writer, all_tokens) == "");
    all_tokens = dense_rank("gen");
    plan_cache cache;
    const kv_slice target{{0, 16}, 16, {{0, {5, 6, 7, 8}}}, true};
    const auto plan =
        make_plan(writer, {{0, 16}, 16, {{0, {1, 2}}}, true}, all_tokens, target, cache);
    REQUIRE(plan);
    CHECK(plan->bytes == 2 * 8 * 16);
    const auto missing =
        make_plan(writer, {{0, 16}, 16, {{0, {1, no_slot}}}, true}, all_tokens, target, cache);
    REQUIRE_FALSE(missing);
    CHECK(code_of(missing.error()) == errc::plan_invalid);
}

TEST_CASE("row_shape: a piece without a token of the writer is no part of a plan") {
    const auto writer = dealt_rank("ctx", 1);
    auto receiver = dense_rank("gen");
    receiver.pages->groups[0].tokens_per_slot = 1;
    auto& view = view_of(receiver);
    view.entries[0].bytes = 32;
    view.layout.shard_unit_bytes = 16;
    plan_cache cache;
    const auto plan = make_plan(writer, {{0, 8}, 8, {{0, {0}}}, true}, receiver,
                                {{0, 8}, 8, {{0, {0, 1, 2, 3, 4, 5, 6, 7}}}, true}, cache);
    REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
    CHECK(plan->parts.size() == 4); // tokens 1, 3, 5 and 7
    CHECK(plan->bytes == 4 * 32);
    for (const auto& part : plan->parts)
        CHECK_FALSE(part.layout->runs.empty());
}
