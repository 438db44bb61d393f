// SPDX-License-Identifier: Apache-2.0
// Templates of every kind of view, with offsets worked out by hand.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/plan/copy_template.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// One view in a slot of its own, one entry per layer and buffer.
pool_view view_with(mapper_kind kind, std::uint32_t shards, std::uint32_t shard,
                    std::uint32_t entries, std::uint64_t entry_bytes) {
    pool_view result;
    result.layout.kind = kind;
    result.layout.num_shards = shards;
    result.layout.shard_index = shard;
    for (std::uint32_t index = 0; index < entries; ++index)
        result.entries.push_back({0, index * entry_bytes, entry_bytes});
    return result;
}

copy_template between(const pool_view& source, const pool_view& target, const token_cut& cut = {}) {
    view_pair pair;
    for (std::size_t index = 0; index < source.entries.size(); ++index)
        pair.entries.push_back({source.entries[index], target.entries[index], 0});
    template_builder builder;
    builder.add(pair, source, target, cut);
    auto made = builder.finish();
    REQUIRE(made);
    return *made;
}

} // namespace

TEST_CASE("copy_template: hnd, a head out of each buffer") {
    // 4 heads of 4096 bytes; TP rank 1 of 2 (heads 2 and 3) to TP rank 3 of 4 (head 3).
    const auto made = between(view_with(mapper_kind::hnd, 2, 1, 2, 8192),
                              view_with(mapper_kind::hnd, 4, 3, 2, 4096));
    CHECK(made == copy_template{{{4096, 0, 4096, 2, 8192, 4096}}, 8192, 2});
}

TEST_CASE("copy_template: hnd, a head into each buffer") {
    const auto made = between(view_with(mapper_kind::hnd, 4, 2, 2, 4096),
                              view_with(mapper_kind::hnd, 2, 1, 2, 8192));
    CHECK(made == copy_template{{{0, 0, 4096, 2, 4096, 8192}}, 8192, 2});
}

TEST_CASE("copy_template: nhd, a head out of each token") {
    // 2 tokens, 2 heads of 4 bytes against 1: source offsets 0, 8, 16, 24, target 0, 4, 8, 12.
    const auto made = between(view_with(mapper_kind::nhd, 1, 0, 2, 16),
                              view_with(mapper_kind::nhd, 2, 0, 2, 8), token_cut::whole(2));
    CHECK(made == copy_template{{{0, 0, 4, 4, 8, 4}}, 16, 4});
}

TEST_CASE("copy_template: shard counts of which neither divides the other meet in whole heads") {
    // 6 heads of 16 bytes; rank 1 of 3 has heads 2 and 3, rank 0 of 2 has heads 0 to 2: head 2.
    CHECK(
        between(view_with(mapper_kind::hnd, 3, 1, 2, 32), view_with(mapper_kind::hnd, 2, 0, 2, 48))
        == copy_template{{{0, 32, 16, 2, 32, 48}}, 32, 2});
    CHECK(
        between(view_with(mapper_kind::hnd, 3, 1, 2, 32), view_with(mapper_kind::hnd, 2, 1, 2, 48))
        == copy_template{{{16, 0, 16, 2, 32, 48}}, 32, 2});
}

TEST_CASE("copy_template: a block into half a block, per head for hnd, in one piece for nhd") {
    // Two heads of 4 bytes per token: 2 tokens on the source; tokens 2 and 3 of 4 on the target.
    const token_cut cut{2, 4, 0, 2, 2};
    auto source = view_with(mapper_kind::hnd, 1, 0, 1, 16);
    auto target = view_with(mapper_kind::hnd, 1, 0, 1, 32);
    source.layout.shard_unit_bytes = 8;
    target.layout.shard_unit_bytes = 16;
    CHECK(between(source, target, cut) == copy_template{{{0, 8, 8, 2, 8, 16}}, 16, 2});
    source.layout.kind = target.layout.kind = mapper_kind::nhd;
    CHECK(between(source, target, cut) == copy_template{{{0, 16, 16, 1, 0, 0}}, 16, 1});
    // The prompt ends after one of the two tokens.
    CHECK(between(source, target, {2, 4, 0, 2, 1}) == copy_template{{{0, 16, 8, 1, 0, 0}}, 8, 1});
}

TEST_CASE("copy_template: hnd to nhd and back, a stretch per token and head") {
    // 2 tokens, 2 heads of 4 bytes: hnd has head 0 at 0 and 4, head 1 at 8 and 12; nhd 0, 8 and
    // 4, 12.
    auto hnd = view_with(mapper_kind::hnd, 1, 0, 1, 16);
    auto nhd = view_with(mapper_kind::nhd, 1, 0, 1, 16);
    hnd.layout.shard_unit_bytes = nhd.layout.shard_unit_bytes = 8;
    CHECK(between(hnd, nhd, token_cut::whole(2))
          == copy_template{{{0, 0, 4, 2, 4, 8}, {8, 4, 4, 2, 4, 8}}, 16, 4});
    CHECK(between(nhd, hnd, token_cut::whole(2))
          == copy_template{{{0, 0, 4, 2, 8, 4}, {4, 8, 4, 2, 8, 4}}, 16, 4});
}

TEST_CASE("copy_template: sectioned, a share of each section") {
    // Convolution state x/B/C of 3072/768/768 bytes; TP rank 1 of 2 to TP rank 3 of 4.
    auto source = view_with(mapper_kind::sectioned, 2, 1, 1, 1536 + 384 + 384);
    auto target = view_with(mapper_kind::sectioned, 4, 3, 1, 768 + 192 + 192);
    source.layout.section_bytes = {1536, 384, 384};
    target.layout.section_bytes = {768, 192, 192};
    const auto made = between(source, target);
    CHECK(made == copy_template{{{768, 0, 768, 1, 0, 0}, {1728, 768, 192, 2, 384, 192}}, 1152, 3});
}

TEST_CASE("copy_template: recurrent state, heads as in hnd") {
    // 4 heads of 4096 bytes; TP rank 1 of 2 to TP rank 3 of 4.
    const auto made = between(view_with(mapper_kind::hnd, 2, 1, 1, 8192),
                              view_with(mapper_kind::hnd, 4, 3, 1, 4096));
    CHECK(made == copy_template{{{4096, 0, 4096, 1, 0, 0}}, 4096, 1});
}

TEST_CASE("copy_template: equal shards travel whole, whatever the kind") {
    for (auto kind : {mapper_kind::hnd, mapper_kind::nhd, mapper_kind::replicated}) {
        const auto made = between(view_with(kind, 1, 0, 6, 64), view_with(kind, 1, 0, 6, 64),
                                  token_cut::whole(8));
        CHECK(made == copy_template{{{0, 0, 384, 1, 0, 0}}, 384, 1});
    }
}

TEST_CASE("copy_template: a gap on one side splits a run, regular gaps make one run") {
    template_builder builder;
    builder.add(0, 0, 10);
    builder.add(10, 10, 10); // touches on both sides
    builder.add(20, 30, 20); // on the source only
    builder.add(40, 60, 20); // continues the strides of 20 and 30
    builder.add(60, 80, 20); // touches, so it joins the stretch before it
    builder.add(90, 110, 5);
    const auto made = builder.finish();
    REQUIRE(made);
    CHECK(*made
          == copy_template{
              {{0, 0, 20, 2, 20, 30}, {40, 60, 40, 1, 0, 0}, {90, 110, 5, 1, 0, 0}}, 85, 4});
}

TEST_CASE("copy_template: stretches that go backwards are kept apart") {
    template_builder builder;
    builder.add(100, 0, 10);
    builder.add(50, 10, 10);
    builder.add(0, 20, 10);
    const auto made = builder.finish();
    REQUIRE(made);
    CHECK(made->runs.size() == 3);
    CHECK(made->bytes == 30);
}

TEST_CASE("copy_template: a target byte that two stretches fill is refused") {
    template_builder builder;
    builder.add(0, 100, 10);
    builder.add(500, 0, 10);
    CHECK(builder.finish());
    builder.add(900, 109, 4);
    const auto made = builder.finish();
    REQUIRE_FALSE(made);
    CHECK(code_of(made.error()) == errc::plan_invalid);
    CHECK(text_of(made.error()).find("slot offset 109") != std::string::npos);
}
