// SPDX-License-Identifier: Apache-2.0
// Who sends what to whom, for parallel configurations whose routes were worked out by hand.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/layout_match.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/planner/plan/plan_cache.hpp"

#include <algorithm>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

struct route_case {
    const char* name;
    split context;
    split generation;
    bool mla = false;
    std::uint32_t context_dp = 0;
    std::uint32_t generation_dp = 0;
    /// One line per receiver: ranks that overlap, payload of one block, aux writer. Then how many
    /// receivers each context rank serves.
    const char* expected = "";
};

/// 4096 bytes per head, per K or V, per block.
cache_format format_of(const route_case& x) {
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 128;
    result.element_bytes = 4;
    result.element_type = "fp32";
    result.tokens_per_block = 8;
    result.kind = x.mla ? attention_kind::mla : attention_kind::gqa;
    return result;
}

/// " ctx0 L0-1 4x8192B;"
std::string payload_text(const rank_info& writer, const rank_info& receiver) {
    auto pairs = match_layouts(writer, receiver);
    REQUIRE(pairs);
    std::vector<std::uint32_t> layers;
    for (const auto& pair : *pairs)
        for (const auto& entry : pair.entries)
            layers.push_back(
                writer.pages->groups[pair.source_group].layers[entry.source.local_layer]);
    auto [first, last] = std::minmax_element(layers.begin(), layers.end());
    auto made = make_pair_layout(writer, receiver);
    REQUIRE(made);
    REQUIRE(made->size() == 1);
    const auto& layout = *made->front().pieces.front().layout;
    for (const auto& x : layout.runs)
        CHECK(x.bytes == layout.runs.front().bytes);
    return " ctx" + to_string(writer.rank) + " L" + std::to_string(*first) + "-"
           + std::to_string(*last) + " " + std::to_string(layout.fragments) + "x"
           + std::to_string(layout.runs.front().bytes) + "B;";
}

std::string routes_of(const route_case& x) {
    const auto context = make_instance("ctx", x.context, format_of(x));
    const auto generation = make_instance("gen", x.generation, format_of(x));
    std::string result;
    for (const auto& receiver : generation) {
        if (dp_rank(receiver.layout) != x.generation_dp)
            continue;
        auto found = cohorts_of(receiver, context, x.context_dp);
        REQUIRE_MESSAGE(found, text_of_error(found ? caf::error{} : found.error()));
        REQUIRE(found->aux.size() == 1);
        result += "gen" + to_string(receiver.rank) + ": writers "
                  + list(overlapping_writers(receiver, context, x.context_dp)) + "; payload";
        for (auto writer : found->kv)
            result += payload_text(context[writer.value], receiver);
        result += " aux ctx" + to_string(found->aux.front()) + "\n";
    }
    result += "serves";
    for (const auto& writer : context)
        if (dp_rank(writer.layout) == x.context_dp)
            result +=
                " ctx" + to_string(writer.rank) + "="
                + std::to_string(overlapping_receivers(writer, generation, x.generation_dp).size());
    return result + "\n";
}

const route_case parallel_cases[] = {
    {"tp1 pp1 to tp1 pp1",
     {1, 1},
     {1, 1},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-3 1x131072B; aux ctx0\n"
     "serves ctx0=1\n"},
    {"tp1 pp1 to tp1 pp2",
     {1, 1},
     {1, 2},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-1 1x65536B; aux ctx0\n"
     "gen1: writers [0]; payload ctx0 L2-3 1x65536B; aux ctx0\n"
     "serves ctx0=2\n"},
    {"tp1 pp2 to tp1 pp1",
     {1, 2},
     {1, 1},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-1 1x65536B; ctx1 L2-3 1x65536B; aux ctx0\n"
     "serves ctx0=1 ctx1=1\n"},
    {"tp1 pp2 to tp1 pp2",
     {1, 2},
     {1, 2},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-1 1x65536B; aux ctx0\n"
     "gen1: writers [1]; payload ctx1 L2-3 1x65536B; aux ctx1\n"
     "serves ctx0=1 ctx1=1\n"},
    {"tp1 pp2 to tp2 pp1",
     {1, 2},
     {2, 1},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-1 4x8192B; ctx1 L2-3 4x8192B; aux ctx0\n"
     "gen1: writers [0, 1]; payload ctx0 L0-1 4x8192B; ctx1 L2-3 4x8192B; aux ctx0\n"
     "serves ctx0=2 ctx1=2\n"},
    {"tp2 pp1 to tp1 pp2",
     {2, 1},
     {1, 2},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-1 4x8192B; ctx1 L0-1 4x8192B; aux ctx0\n"
     "gen1: writers [0, 1]; payload ctx0 L2-3 4x8192B; ctx1 L2-3 4x8192B; aux ctx0\n"
     "serves ctx0=2 ctx1=2\n"},
    {"tp4 pp1 to tp2 pp2",
     {4, 1},
     {2, 2},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-1 4x4096B; ctx1 L0-1 4x4096B; aux ctx0\n"
     "gen1: writers [2, 3]; payload ctx2 L0-1 4x4096B; ctx3 L0-1 4x4096B; aux ctx2\n"
     "gen2: writers [0, 1]; payload ctx0 L2-3 4x4096B; ctx1 L2-3 4x4096B; aux ctx0\n"
     "gen3: writers [2, 3]; payload ctx2 L2-3 4x4096B; ctx3 L2-3 4x4096B; aux ctx2\n"
     "serves ctx0=2 ctx1=2 ctx2=2 ctx3=2\n"},
    {"tp1 pp4 to tp2 pp2",
     {1, 4},
     {2, 2},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-0 2x8192B; ctx1 L1-1 2x8192B; aux ctx0\n"
     "gen1: writers [0, 1]; payload ctx0 L0-0 2x8192B; ctx1 L1-1 2x8192B; aux ctx0\n"
     "gen2: writers [2, 3]; payload ctx2 L2-2 2x8192B; ctx3 L3-3 2x8192B; aux ctx2\n"
     "gen3: writers [2, 3]; payload ctx2 L2-2 2x8192B; ctx3 L3-3 2x8192B; aux ctx2\n"
     "serves ctx0=2 ctx1=2 ctx2=2 ctx3=2\n"},
    {"tp2 pp1 dp to tp2 pp1 dp",
     {2, 1, 1, true},
     {2, 1, 1, true},
     false,
     0,
     1,
     "gen1: writers [0]; payload ctx0 L0-3 1x131072B; aux ctx0\n"
     "serves ctx0=1\n"},
    {"tp2 pp1 dp to tp1 pp2",
     {2, 1, 1, true},
     {1, 2},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-1 1x65536B; aux ctx0\n"
     "gen1: writers [0]; payload ctx0 L2-3 1x65536B; aux ctx0\n"
     "serves ctx0=2\n"},
    {"tp1 pp4 to tp2 pp2 dp",
     {1, 4},
     {2, 2, 1, true},
     false,
     0,
     1,
     "gen1: writers [0, 1]; payload ctx0 L0-0 1x32768B; ctx1 L1-1 1x32768B; aux ctx0\n"
     "gen3: writers [2, 3]; payload ctx2 L2-2 1x32768B; ctx3 L3-3 1x32768B; aux ctx2\n"
     "serves ctx0=1 ctx1=1 ctx2=1 ctx3=1\n"},
    {"tp2 pp1 to tp2 pp1 dp, mla",
     {2, 1},
     {2, 1, 1, true},
     true,
     0,
     1,
     "gen1: writers [0, 1]; payload ctx1 L0-3 1x16384B; aux ctx0\n"
     "serves ctx0=1 ctx1=1\n"},
    {"tp2 pp1 dp to tp2 pp1, mla",
     {2, 1, 1, true},
     {2, 1},
     true,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-3 1x16384B; aux ctx0\n"
     "gen1: writers [0]; payload ctx0 L0-3 1x16384B; aux ctx0\n"
     "serves ctx0=2\n"},
};

/// More ranks than heads on one side: heads are duplicated there.
const route_case duplication_cases[] = {
    {"tp8 to tp4",
     {8},
     {4},
     false,
     0,
     0,
     "gen0: writers [0, 1]; payload ctx0 L0-3 1x32768B; aux ctx0\n"
     "gen1: writers [2, 3]; payload ctx2 L0-3 1x32768B; aux ctx2\n"
     "gen2: writers [4, 5]; payload ctx4 L0-3 1x32768B; aux ctx4\n"
     "gen3: writers [6, 7]; payload ctx6 L0-3 1x32768B; aux ctx6\n"
     "serves ctx0=1 ctx1=1 ctx2=1 ctx3=1 ctx4=1 ctx5=1 ctx6=1 ctx7=1\n"},
    {"tp8 to tp2",
     {8},
     {2},
     false,
     0,
     0,
     "gen0: writers [0, 1, 2, 3]; payload ctx0 L0-3 8x4096B; ctx2 L0-3 8x4096B; aux ctx0\n"
     "gen1: writers [4, 5, 6, 7]; payload ctx4 L0-3 8x4096B; ctx6 L0-3 8x4096B; aux ctx4\n"
     "serves ctx0=1 ctx1=1 ctx2=1 ctx3=1 ctx4=1 ctx5=1 ctx6=1 ctx7=1\n"},
    {"tp8 to tp1",
     {8},
     {1},
     false,
     0,
     0,
     "gen0: writers [0, 1, 2, 3, 4, 5, 6, 7]; payload ctx0 L0-3 8x4096B; ctx2 L0-3 8x4096B;"
     " ctx4 L0-3 8x4096B; ctx6 L0-3 8x4096B; aux ctx0\n"
     "serves ctx0=1 ctx1=1 ctx2=1 ctx3=1 ctx4=1 ctx5=1 ctx6=1 ctx7=1\n"},
    {"tp4 to tp8",
     {4},
     {8},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-3 1x32768B; aux ctx0\n"
     "gen1: writers [0]; payload ctx0 L0-3 1x32768B; aux ctx0\n"
     "gen2: writers [1]; payload ctx1 L0-3 1x32768B; aux ctx1\n"
     "gen3: writers [1]; payload ctx1 L0-3 1x32768B; aux ctx1\n"
     "gen4: writers [2]; payload ctx2 L0-3 1x32768B; aux ctx2\n"
     "gen5: writers [2]; payload ctx2 L0-3 1x32768B; aux ctx2\n"
     "gen6: writers [3]; payload ctx3 L0-3 1x32768B; aux ctx3\n"
     "gen7: writers [3]; payload ctx3 L0-3 1x32768B; aux ctx3\n"
     "serves ctx0=2 ctx1=2 ctx2=2 ctx3=2\n"},
    {"tp2 to tp8",
     {2},
     {8},
     false,
     0,
     0,
     "gen0: writers [0]; payload ctx0 L0-3 8x4096B; aux ctx0\n"
     "gen1: writers [0]; payload ctx0 L0-3 8x4096B; aux ctx0\n"
     "gen2: writers [0]; payload ctx0 L0-3 8x4096B; aux ctx0\n"
     "gen3: writers [0]; payload ctx0 L0-3 8x4096B; aux ctx0\n"
     "gen4: writers [1]; payload ctx1 L0-3 8x4096B; aux ctx1\n"
     "gen5: writers [1]; payload ctx1 L0-3 8x4096B; aux ctx1\n"
     "gen6: writers [1]; payload ctx1 L0-3 8x4096B; aux ctx1\n"
     "gen7: writers [1]; payload ctx1 L0-3 8x4096B; aux ctx1\n"
     "serves ctx0=4 ctx1=4\n"},
    {"tp16 to tp2",
     {16},
     {2},
     false,
     0,
     0,
     "gen0: writers [0, 1, 2, 3, 4, 5, 6, 7]; payload ctx0 L0-3 8x4096B; ctx4 L0-3 8x4096B;"
     " aux ctx0\n"
     "gen1: writers [8, 9, 10, 11, 12, 13, 14, 15]; payload ctx8 L0-3 8x4096B;"
     " ctx12 L0-3 8x4096B; aux ctx8\n"
     "serves ctx0=1 ctx1=1 ctx2=1 ctx3=1 ctx4=1 ctx5=1 ctx6=1 ctx7=1 ctx8=1 ctx9=1 ctx10=1"
     " ctx11=1 ctx12=1 ctx13=1 ctx14=1 ctx15=1\n"},
};

} // namespace

TEST_CASE("planner: every parallel configuration has the routes worked out by hand") {
    for (const auto& x : parallel_cases) {
        INFO(x.name);
        CHECK(routes_of(x) == x.expected);
    }
}

TEST_CASE(
    "planner: with more ranks than heads one replica of each shard sends, and only its share") {
    for (const auto& x : duplication_cases) {
        INFO(x.name);
        CHECK(routes_of(x) == x.expected);
    }
}

TEST_CASE("planner: uneven stages are cut by layer, not by rank") {
    // 7 layers: every one of the four stages is served by all four TP ranks.
    route_case x{"", {4, 1}, {1, 4, 1, false, {2, 2, 2, 1}}};
    auto format = format_of(x);
    format.layers = 7;
    const auto context = make_instance("ctx", x.context, format);
    for (const auto& receiver : make_instance("gen", x.generation, format)) {
        auto found = cohorts_of(receiver, context, 0);
        REQUIRE(found);
        CHECK(list(found->kv) == "[0, 1, 2, 3]");
        CHECK(list(found->aux) == "[0]");
    }
}
