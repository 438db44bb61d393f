// SPDX-License-Identifier: Apache-2.0
// Pairing of views: which views match, and the text of each refusal.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/layout_match.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

rank_info small_rank(const std::string& name, const split& x = {}, std::uint32_t index = 0) {
    cache_format format;
    format.layers = 4;
    format.kv_heads = 4;
    format.head_dim = 8;
    format.tokens_per_block = 4;
    return make_instance(name, x, format)[index];
}

pool_view& view_of(rank_info& x) {
    return x.pages->groups[0].views[0];
}

caf::error refusal(const rank_info& writer, const rank_info& receiver) {
    auto found = match_layouts(writer, receiver);
    return found ? caf::error{} : found.error();
}

} // namespace

TEST_CASE("layout_match: every difference is refused with the field and both values") {
    struct difference {
        const char* name;
        void (*make)(rank_info&);
        const char* text;
    };
    for (auto [name, make, text] : {
             difference{
                 "kind",
                 [](rank_info& x) {
                     view_of(x).layout.kind = mapper_kind::replicated;
                     view_of(x).layout.shard_unit_bytes.reset();
                 },
                 "kind of [\"key\", \"value\"]: writer ctx/0 has \"hnd\", receiver gen/0 has "
                 "\"replicated\""},
             difference{"element type",
                        [](rank_info& x) { view_of(x).layout.element_type = "fp8"; },
                        "element_type of [\"key\", \"value\"]: writer ctx/0 has \"bf16\", receiver "
                        "gen/0 has \"fp8\""},
             difference{"element shape",
                        [](rank_info& x) { view_of(x).layout.element_shape = {4}; },
                        "writer ctx/0 has [8], receiver gen/0 has [4]"},
             difference{"block size", [](rank_info& x) { x.pages->groups[0].tokens_per_slot = 8; },
                        "shard_unit_bytes (per token, with tokens_per_slot 4 and 8) of [\"key\", "
                        "\"value\"]: writer ctx/0 has 64, receiver gen/0 has 64"},
             difference{"block sizes that hardly ever meet",
                        [](rank_info& x) { x.pages->groups[0].tokens_per_slot = 4099; },
                        "tokens_per_slot (the blocks cut each other into more than 1024 pieces) of "
                        "[\"key\", \"value\"]: writer ctx/0 has 4, receiver gen/0 has 4099"},
             difference{"blocks against state",
                        [](rank_info& x) { x.pages->groups[0].tokens_per_slot.reset(); },
                        "writer ctx/0 has 4, receiver gen/0 has none"},
             difference{"roles", [](rank_info& x) { view_of(x).roles = {"key"}; },
                        "writer ctx/0 has [\"key\", \"value\"], receiver gen/0 has [\"key\"]"},
             difference{"number of buffers",
                        [](rank_info& x) {
                            auto& entries = view_of(x).entries;
                            for (std::size_t i = 1; i < entries.size(); ++i)
                                entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(i));
                        },
                        "has 2, receiver gen/0 has 1"},
             difference{"buffer size",
                        [](rank_info& x) {
                            for (auto& entry : view_of(x).entries)
                                entry.bytes /= 2;
                        },
                        "writer ctx/0 has 256, receiver gen/0 has 128"},
         }) {
        CAPTURE(name);
        auto receiver = small_rank("gen");
        make(receiver);
        const auto error = refusal(small_rank("ctx"), receiver);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK_MESSAGE(text_of(error).find(text) != std::string::npos, text_of(error));
    }
}

TEST_CASE("layout_match: without element_shape a block is not cut between tokens") {
    auto writer = small_rank("ctx");
    auto receiver = small_rank("gen");
    for (auto* side : {&writer, &receiver}) {
        auto& layout = view_of(*side).layout;
        layout.kind = mapper_kind::replicated;
        layout.shard_unit_bytes.reset();
        layout.element_shape.clear();
    }
    CHECK_FALSE(refusal(writer, receiver));
    receiver.pages->groups[0].tokens_per_slot = 2;
    CHECK(text_of(refusal(writer, receiver)).find("tokens_per_slot (without element_shape") == 0);
}

TEST_CASE("layout_match: heads are split only in units that both sides agree on") {
    const auto writer = small_rank("ctx", {2});
    auto receiver = small_rank("gen", {4});
    CHECK_FALSE(refusal(writer, receiver));
    SUBCASE("no unit") {
        view_of(receiver).layout.shard_unit_bytes.reset();
        CHECK(text_of(refusal(writer, receiver)).find("has 64, receiver gen/0 has none")
              != std::string::npos);
    }
    SUBCASE("another unit") {
        view_of(receiver).layout.shard_unit_bytes = 32;
        CHECK(text_of(refusal(writer, receiver)).find("has 64, receiver gen/0 has 32")
              != std::string::npos);
    }
    SUBCASE("equal shards need none") {
        receiver = small_rank("gen", {2});
        view_of(receiver).layout.shard_unit_bytes.reset();
        CHECK_FALSE(refusal(writer, receiver));
    }
}

TEST_CASE("layout_match: layers that both have are paired by global id, in the writer's order") {
    // Stage 1 of two against stages {1, 2, 1}: layers 2, 3 and 1, 2 have layer 2 in common.
    const auto writer = small_rank("ctx", {1, 2}, 1);
    const auto receiver = small_rank("gen", {1, 3, 1, false, {1, 2, 1}}, 1);
    const auto pairs = match_layouts(writer, receiver);
    REQUIRE(pairs);
    REQUIRE(pairs->size() == 1);
    const auto& entries = pairs->front().entries;
    REQUIRE(entries.size() == 2);
    for (std::uint64_t buffer : {0, 1}) {
        CHECK(entries[buffer].source == buffer_entry{0, buffer * 256, 256});
        CHECK(entries[buffer].target == buffer_entry{1, (2 + buffer) * 256, 256});
    }
}

TEST_CASE("layout_match: one group of layers on one side may be two on the other") {
    // The receiver keeps layers 0..1 and 2..3 in groups and pools of their own.
    auto receiver = small_rank("gen");
    auto& pages = *receiver.pages;
    auto second = pages.groups[0];
    auto& first = pages.groups[0];
    first.layers = {0, 1};
    second.layers = {2, 3};
    auto& entries = first.views[0].entries;
    entries.resize(4);
    second.views[0].entries = entries;
    second.views[0].pool = 1;
    pages.groups.push_back(second);
    pages.pools.push_back(pages.pools[0]);
    const auto pairs = match_layouts(small_rank("ctx"), receiver);
    REQUIRE(pairs);
    REQUIRE(pairs->size() == 2);
    CHECK((*pairs)[0].entries.size() == 4);
    CHECK((*pairs)[1].entries.size() == 4);
    CHECK((*pairs)[1].entries.front().source.local_layer == 2);
    CHECK((*pairs)[1].target_group == 1);
}

TEST_CASE("layout_match: K and V of one pool go to two pools by role") {
    // The receiver keeps V first, in a pool of its own.
    auto receiver = small_rank("gen");
    auto& group = receiver.pages->groups[0];
    auto key = group.views[0];
    key.roles = {"key"};
    key.entries.clear();
    for (std::uint32_t layer = 0; layer < 4; ++layer)
        key.entries.push_back({layer, layer * 256, 256});
    auto value = key;
    value.roles = {"value"};
    key.pool = 1;
    group.views = {value, key};
    receiver.pages->pools.push_back(receiver.pages->pools[0]);
    const auto pairs = match_layouts(small_rank("ctx"), receiver);
    REQUIRE(pairs);
    REQUIRE(pairs->size() == 2);
    for (std::uint64_t role : {0, 1}) { // the writer has K first, the receiver has V first
        const auto& pair = (*pairs)[1 - role];
        CHECK(pair.target_view == 1 - role);
        REQUIRE(pair.entries.size() == 4);
        for (std::uint32_t layer = 0; layer < 4; ++layer) {
            CHECK(pair.entries[layer].source == buffer_entry{layer, (2 * layer + role) * 256, 256});
            CHECK(pair.entries[layer].target == buffer_entry{layer, layer * 256, 256});
        }
    }
}

TEST_CASE("layout_match: roles that only one side has make no pair") {
    auto receiver = small_rank("gen");
    view_of(receiver).roles = {"indexer_k"};
    const auto pairs = match_layouts(small_rank("ctx"), receiver);
    REQUIRE(pairs);
    CHECK(pairs->empty());
}

TEST_CASE("layout_match: no page table is missing_layout, never an empty match") {
    auto receiver = small_rank("gen");
    receiver.pages.reset();
    const auto error = refusal(small_rank("ctx"), receiver);
    CHECK(code_of(error) == errc::missing_layout);
    CHECK(text_of(error).find("gen/0 has published no page table") != std::string::npos);
    CHECK(code_of(refusal(receiver, small_rank("ctx"))) == errc::missing_layout);
}
