// SPDX-License-Identifier: Apache-2.0
// Rank arithmetic: ranks, stages, DP groups, overlap.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/topology.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// A rank without a page table; every stage has one layer.
rank_info bare_rank(const parallelism& layout) {
    rank_info result;
    result.instance = "bare";
    result.layout = layout;
    result.layout.layers_per_stage.assign(layout.pp_size, 1);
    result.world_size = layout.tp_size * layout.pp_size * layout.cp_size;
    result.rank = instance_rank(layout);
    return result;
}

std::vector<rank_info> bare_instance(std::uint32_t tp, std::uint32_t pp, std::uint32_t cp) {
    std::vector<rank_info> result;
    for (std::uint32_t p = 0; p < pp; ++p)
        for (std::uint32_t t = 0; t < tp; ++t)
            for (std::uint32_t c = 0; c < cp; ++c)
                result.push_back(bare_rank({tp, t, pp, p, cp, c, false, {}}));
    return result;
}

} // namespace

TEST_CASE("topology: ranks count CP first, then TP, then PP") {
    // TP indexes 2 and 3, CP indexes 0 and 1 of a 4 x 4 stage; counting TP first would give
    // 2, 3, 6, 7.
    std::vector<std::uint32_t> ranks;
    for (std::uint32_t tp : {2, 3})
        for (std::uint32_t cp : {0, 1})
            ranks.push_back(instance_rank({4, tp, 1, 0, 4, cp, false, {1}}).value);
    CHECK(ranks == std::vector<std::uint32_t>{8, 9, 12, 13});
    CHECK(instance_rank({4, 1, 3, 2, 2, 1, false, {1, 1, 1}}) == rank_id{2 * 8 + 1 * 2 + 1});
}

TEST_CASE("topology: a rank among fewer meets every rank that holds a part of its share") {
    // Stage 1 of {1, 2}: layers 1 and 2; TP 1 of 2; CP 1 of 2; against 4 x 4 x 4 with a layer per
    // stage: stages 1 and 2, TP 2 and 3, CP 2 and 3.
    auto self = bare_rank({2, 1, 2, 1, 2, 1, false, {}});
    self.layout.layers_per_stage = {1, 2};
    CHECK(list(overlapping_writers(self, bare_instance(4, 4, 4), 0))
          == "[26, 27, 30, 31, 42, 43, 46, 47]");
}

TEST_CASE("topology: layers of a stage follow those of the stages before it") {
    parallelism x;
    x.pp_size = 3;
    x.layers_per_stage = {2, 3, 1};
    x.pp_rank = 2;
    CHECK(global_layers(x) == stage_layers{5, 1});
    x.layers_per_stage.pop_back();
    CHECK(global_layers(x) == stage_layers{0, 0});
}

TEST_CASE("topology: under attention DP every TP rank is its own group with all heads") {
    const parallelism x{4, 3, 1, 0, 1, 0, true, {1}};
    CHECK(dp_size(x) == 4);
    CHECK(dp_rank(x) == 3);
    CHECK(heads_group(x) == tp_group{1, 0});
    const parallelism y{4, 3, 1, 0, 1, 0, false, {1}};
    CHECK(dp_size(y) == 1);
    CHECK(dp_rank(y) == 0);
    CHECK(heads_group(y) == tp_group{4, 3});
}

TEST_CASE("topology: stages that only touch do not overlap") {
    const parallelism first{1, 0, 2, 0, 1, 0, false, {3, 4}};
    const parallelism second{1, 0, 2, 1, 1, 0, false, {3, 4}};
    CHECK(stages_overlap(first, first));
    CHECK(stages_overlap(second, second));
    CHECK_FALSE(stages_overlap(first, second));
    CHECK_FALSE(stages_overlap(second, first));
}

TEST_CASE("topology: a rank info that contradicts itself is refused with what it says") {
    const auto good = bare_rank({2, 1, 2, 1, 2, 1, false, {}});
    CHECK_FALSE(check_parallelism(good));
    struct mistake {
        void (*make)(rank_info&);
        const char* text;
    };
    for (auto [make, text] :
         {mistake{[](rank_info& x) { x.layout.tp_rank = 2; }, "tp_rank 2 is not below tp_size 2"},
          mistake{[](rank_info& x) { x.layout.cp_size = 0; }, "cp_rank 1 is not below cp_size 0"},
          mistake{[](rank_info& x) { x.world_size = 9; }, "world_size 9"},
          mistake{[](rank_info& x) { x.rank = rank_id{3}; }, "makes it rank 7"},
          mistake{[](rank_info& x) { x.layout.layers_per_stage = {1}; }, "has 1 entries"},
          mistake{[](rank_info& x) {
                      x.layout.layers_per_stage = {~0u, 2};
                  },
                  "4294967297 layers"}}) {
        auto rank = good;
        make(rank);
        const auto error = check_parallelism(rank);
        CHECK(code_of(error) == errc::layout_mismatch);
        CHECK_MESSAGE(text_of(error).find(text) != std::string::npos, text_of(error));
    }
}

TEST_CASE("topology: any two TP sizes go together, CP only with none or the same") {
    auto check = [](const parallelism& a, const parallelism& b) {
        return text_of(check_split(bare_rank(a), bare_rank(b)));
    };
    auto tp = [](std::uint32_t size, bool attention_dp = false) {
        return parallelism{size, 0, 1, 0, 1, 0, attention_dp, {}};
    };
    auto cp = [](std::uint32_t size) { return parallelism{1, 0, 1, 0, size, 0, false, {}}; };
    CHECK(check(tp(4), tp(2)).empty());
    CHECK(check(cp(1), cp(2)).empty());
    CHECK(check(cp(2), cp(1)).empty());
    CHECK(check(tp(3), tp(2)).empty());
    CHECK(check(tp(3, true), tp(2)).empty()); // attention DP: one rank per request
    CHECK(check(cp(2), cp(2)).empty());
    CHECK(check(cp(2), cp(4)).find("cp_size") != std::string::npos);
}

TEST_CASE("topology: of 3 against 2 ranks the middle one meets both") {
    auto tp = [](std::uint32_t size, std::uint32_t rank) {
        return parallelism{size, rank, 1, 0, 1, 0, false, {1}};
    };
    const bool expected[3][2] = {{true, false}, {true, true}, {false, true}};
    for (std::uint32_t a = 0; a < 3; ++a)
        for (std::uint32_t b = 0; b < 2; ++b) {
            CHECK(groups_overlap(tp(3, a), tp(2, b)) == expected[a][b]);
            CHECK(groups_overlap(tp(2, b), tp(3, a)) == expected[a][b]);
        }
}

TEST_CASE("topology: DP groups with TP inside share heads among themselves only") {
    auto rank = [](std::uint32_t tp_rank) {
        return parallelism{8, tp_rank, 1, 0, 1, 0, true, {1}, 4};
    };
    for (std::uint32_t tp_rank = 0; tp_rank < 8; ++tp_rank) {
        CHECK(dp_size(rank(tp_rank)) == 2);
        CHECK(dp_rank(rank(tp_rank)) == tp_rank / 4);
        CHECK(heads_group(rank(tp_rank)) == tp_group{4, tp_rank % 4});
    }
    // A quarter of the heads on each: half of an instance of two ranks meets two of them.
    const parallelism half{2, 1, 1, 0, 1, 0, false, {1}};
    CHECK_FALSE(groups_overlap(rank(5), half));
    CHECK(groups_overlap(rank(6), half));
    auto wrong = bare_rank(rank(0));
    wrong.world_size = 8;
    for (std::uint32_t size : {0u, 3u, 16u}) {
        wrong.layout.attention_tp_size = size;
        CHECK(dp_rank(wrong.layout) == 0); // harmless before it is checked
        CHECK(text_of(check_parallelism(wrong))
                  .find("attention_tp_size " + std::to_string(size) + " does not divide tp_size 8")
              != std::string::npos);
    }
}
