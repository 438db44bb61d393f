// SPDX-License-Identifier: Apache-2.0
// The default cache format: offsets, shards, and what the builder refuses.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/page_table/page_table_builder.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format small_format() {
    cache_format result;
    result.layers = 5;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.element_bytes = 2;
    result.tokens_per_block = 8;
    return result;
}

} // namespace

TEST_CASE(
    "page_table_builder: a slot holds K and V of each layer of the stage, one after another") {
    const auto ranks = make_instance("ctx", {2, 2, 1, false, {2, 3}}, small_format(), 10);
    const auto& pages = *ranks[3].pages; // stage 1, TP rank 1
    REQUIRE(pages.groups.size() == 1);
    const auto& group = pages.groups[0];
    CHECK(group.layers == std::vector<std::uint32_t>{2, 3, 4});
    CHECK(group.tokens_per_slot == 8u);
    REQUIRE(group.views.size() == 1);
    const auto& view = group.views[0];
    CHECK(view.roles == std::vector<std::string>{"key", "value"});
    CHECK(view.layout.num_shards == 2);
    CHECK(view.layout.shard_index == 1);
    CHECK(view.layout.num_replicas == 1);
    CHECK(view.layout.shard_unit_bytes == std::uint64_t{8 * 16 * 2});
    REQUIRE(view.entries.size() == 6);
    CHECK(view.entries[3] == buffer_entry{1, 3 * 512, 512}); // V of layer 3
    CHECK(pages.pools == std::vector<physical_pool>{{0, 0, 6 * 512, 6 * 512, 10}});
    CHECK(footprint_bytes(pages.pools[0]) == 10 * 6 * 512);
    for (const auto& rank : ranks)
        CHECK_FALSE(check_page_table(rank));
}

TEST_CASE("page_table_builder: ranks beyond the heads are replicas next to each other") {
    const auto ranks = make_instance("ctx", {8}, small_format());
    const auto& layout = ranks[5].pages->groups[0].views[0].layout;
    CHECK(layout.num_shards == 4);
    CHECK(layout.shard_index == 2);
    CHECK(layout.num_replicas == 2);
    CHECK(layout.replica_index == 1);
}

TEST_CASE("page_table_builder: under attention DP every rank holds all heads") {
    const auto ranks = make_instance("ctx", {4, 1, 1, true}, small_format());
    const auto& view = ranks[3].pages->groups[0].views[0];
    CHECK(view.layout.num_shards == 1);
    CHECK(view.layout.num_replicas == 1);
    CHECK(view.entries[0].bytes == 4 * 8 * 16 * 2);
}

TEST_CASE("page_table_builder: an mla cache is one latent per layer, replicated") {
    auto format = small_format();
    format.kind = attention_kind::mla;
    format.kv_heads = 0;
    const auto ranks = make_instance("ctx", {2}, format);
    const auto& view = ranks[1].pages->groups[0].views[0];
    CHECK(view.roles == std::vector<std::string>{"key"});
    CHECK(view.layout.kind == mapper_kind::replicated);
    CHECK(view.layout.num_replicas == 2);
    CHECK(view.layout.replica_index == 1);
    CHECK_FALSE(view.layout.shard_unit_bytes);
    CHECK(view.entries.size() == 5);
    CHECK(view.entries[4] == buffer_entry{4, 4 * 256, 256});
}

TEST_CASE("page_table_builder: what cannot be is refused with its field's name") {
    struct input {
        cache_format format = small_format();
        parallelism split{1, 0, 1, 0, 1, 0, false, {5}};
        pool_place place{4, 0, 0};
    };
    struct mistake {
        void (*make)(input&);
        const char* text;
    };
    for (auto [make, text] :
         {mistake{[](input& x) { x.format.layers = 0; }, "layers is 0"},
          mistake{[](input& x) { x.format.kv_heads = 0; }, "kv_heads is 0"},
          mistake{[](input& x) { x.format.head_dim = 0; }, "head_dim is 0"},
          mistake{[](input& x) { x.format.element_bytes = 0; }, "element_bytes is 0"},
          mistake{[](input& x) { x.format.tokens_per_block = 0; }, "tokens_per_block is 0"},
          mistake{[](input& x) { x.format.window_tokens = 0; }, "window_tokens is 0"},
          mistake{[](input& x) { x.format.head_dim = x.format.element_bytes = ~0u; },
                  "one block of all layers"},
          mistake{[](input& x) { x.format.layout = mapper_kind::sectioned; },
                  "layout is sectioned"},
          mistake{[](input& x) { x.format.layers = 6; },
                  "layers is 6, layers_per_stage adds up to 5"},
          mistake{[](input& x) { x.split.tp_rank = 1; }, "tp_rank 1 is not below tp_size 1"},
          mistake{[](input& x) {
                      x.split.pp_size = 2;
                      x.split.layers_per_stage = {0, 5};
                  },
                  "the number of layers on this stage is 0"},
          mistake{[](input& x) { x.split.tp_size = 3; },
                  "kv_heads 4 cannot be split evenly over 3 ranks (tp_size)"},
          mistake{[](input& x) { x.split.tp_size = 6; },
                  "kv_heads 4 cannot be split evenly over 6 ranks (tp_size)"},
          mistake{[](input& x) { x.place.slot_count = 0; }, "slot_count is 0"}}) {
        input x;
        make(x);
        const auto made = build_page_table(x.format, x.split, x.place);
        REQUIRE_FALSE(made);
        CHECK(code_of(made.error()) == errc::invalid_argument);
        CHECK_MESSAGE(text_of(made.error()).find(text) != std::string::npos, text_of(made.error()));
    }
    CHECK(build_page_table(input{}.format, input{}.split, input{}.place));
}
