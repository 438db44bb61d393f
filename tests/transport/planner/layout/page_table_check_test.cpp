// SPDX-License-Identifier: Apache-2.0
// Page tables that the check must refuse.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/page_table_check.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

rank_info good_rank() {
    cache_format format;
    format.layers = 2;
    format.kv_heads = 2;
    format.head_dim = 8;
    format.tokens_per_block = 4;
    return make_instance("ctx", {}, format).front();
}

/// Layer-major: first the slots of layer 0, then those of layer 1. A slot holds K and V of its
/// layer.
rank_info layer_major_rank(std::uint64_t row_slots) {
    auto result = good_rank();
    auto& pool = result.pages->pools[0];
    pool.slot_bytes = pool.slot_stride_bytes = 256;
    for (auto& entry : result.pages->groups[0].views[0].entries)
        if (entry.local_layer == 1)
            entry.offset_bytes += row_slots * 256 - 256;
    return result;
}

} // namespace

TEST_CASE("page_table_check: every contradiction is found and named") {
    struct mistake {
        void (*make)(page_table&);
        const char* text;
    };
    for (auto [make, text] : {
             mistake{[](page_table& x) { x.pools[0].slot_count = 0; }, "pool 0: slot_count is 0"},
             mistake{[](page_table& x) { x.pools[0].slot_stride_bytes = 0; },
                     "slot_stride_bytes is 0"},
             mistake{[](page_table& x) { x.pools[0].region_offset_bytes = ~0ull; },
                     "region_offset_bytes is"},
             mistake{[](page_table& x) { x.groups[0].layers[1] = 0; }, "layer 0 is listed twice"},
             mistake{[](page_table& x) { x.groups[0].tokens_per_slot = 0; },
                     "tokens_per_slot is 0"},
             mistake{[](page_table& x) { x.groups[0].views[0].pool = 1; }, "view 0: pool 1 of 1"},
             mistake{[](page_table& x) {
                         x.groups[0].views[0].roles = {"value", "key"};
                     },
                     "are not sorted names"},
             mistake{[](page_table& x) { x.groups[0].views[0].roles.clear(); },
                     "are not sorted names"},
             mistake{[](page_table& x) { x.groups[0].views[0].layout.num_shards = 0; },
                     "shard_index 0 of num_shards 0"},
             mistake{[](page_table& x) { x.groups[0].views[0].layout.replica_index = 1; },
                     "replica_index 1 of num_replicas 1"},
             mistake{
                 [](page_table& x) { x.groups[0].views[0].layout.kind = mapper_kind::replicated; },
                 "a replicated view with num_shards 1 and shard_unit_bytes 64"},
             mistake{[](page_table& x) { x.groups[0].views[0].layout.shard_unit_bytes = 0; },
                     "shard_unit_bytes is 0"},
             mistake{
                 [](page_table& x) { x.groups[0].views[0].layout.kind = mapper_kind::sectioned; },
                 "sectioned with 0 sections"},
             mistake{[](page_table& x) {
                         x.groups[0].views[0].layout.kind = mapper_kind::sectioned;
                         x.groups[0].views[0].layout.section_bytes = {64, 63};
                     },
                     "has sections of 127 bytes"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries.clear(); }, "no entries"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries[1].local_layer = 2; },
                     "is of local_layer 2 of 2"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries[1].offset_bytes = ~0ull; },
                     "is out of range"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries[1].bytes = 0; },
                     "is out of range"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries[3].bytes = 129; },
                     "crosses the slot stride"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries[1].offset_bytes = 127; },
                     "overlaps or precedes"},
             mistake{[](page_table& x) { x.groups[0].views[0].entries.pop_back(); },
                     "layer 1 has 128 bytes in 1 buffers, layer 0 256 in 2"},
         }) {
        auto rank = good_rank();
        make(*rank.pages);
        const auto error = check_page_table(rank);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK_MESSAGE(text_of(error).find(text) != std::string::npos, text_of(error), " / ", text);
    }
    CHECK_FALSE(check_page_table(good_rank()));
}

TEST_CASE("page_table_check: layer-major pools are fine as long as layers do not share slots") {
    CHECK_FALSE(check_page_table(layer_major_rank(8)));
    CHECK_FALSE(check_page_table(layer_major_rank(9)));
    const auto error = check_page_table(layer_major_rank(7));
    CHECK(text_of(error).find("lies in another slot of its pool") != std::string::npos);
}
