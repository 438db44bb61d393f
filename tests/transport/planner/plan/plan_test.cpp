// SPDX-License-Identifier: Apache-2.0
// Which slots a plan pairs, and what the plan cache keeps.
#include "tests/support/planner_ranks.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/layout_digest.hpp"
#include "transport/planner/plan/plan.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format small_format() {
    cache_format result;
    result.layers = 2;
    result.kv_heads = 4;
    result.head_dim = 8;
    result.tokens_per_block = 8;
    return result;
}

struct sides {
    rank_info writer = make_instance("ctx", {}, small_format(), 64).front();
    rank_info receiver = make_instance("gen", {}, small_format(), 64).front();
    plan_cache cache;

    /// The one part's slots.
    slot_list slots(const kv_slice& source, const kv_slice& target) {
        auto plan = make_plan(writer, source, receiver, target, cache);
        REQUIRE_MESSAGE(plan, text_of_error(plan ? caf::error{} : plan.error()));
        REQUIRE(plan->parts.size() <= 1);
        return plan->parts.empty() ? slot_list{} : plan->parts[0].slots;
    }
};

kv_slice slice(token_range tokens, std::uint32_t prompt_tokens, block_list blocks,
               bool last = true) {
    return {tokens, prompt_tokens, {std::move(blocks)}, last};
}

using slot_pairs = std::vector<slot_pair>;

} // namespace

TEST_CASE("plan: blocks are paired by position, whatever the lists begin with") {
    // Prefix reuse: the receiver has the first two blocks of four already.
    sides x;
    const auto source = slice({0, 32}, 32, {0, {10, 11, 12, 13}});
    CHECK(x.slots(source, slice({0, 32}, 32, {2, {5, 6}})) == slot_pairs{{12, 5}, {13, 6}});
    CHECK(x.slots(source, slice({0, 32}, 32, {0, {no_slot, no_slot, 5, 6}}))
          == slot_pairs{{12, 5}, {13, 6}});
}

TEST_CASE("plan: a list that is longer at its front shifts nothing") {
    // A sliding window: the writer has only block 1224 left, the receiver kept one block more.
    sides x;
    for (auto* side : {&x.writer, &x.receiver})
        side->pages->groups[0].live_token_window = 8;
    CHECK(x.slots(slice({0, 9800}, 9800, {1224, {7}}), slice({0, 9800}, 9800, {1223, {3, 4}}))
          == slot_pairs{{7, 4}});
}

TEST_CASE("plan: a position that the target leaves out is not copied") {
    sides x;
    CHECK(
        x.slots(slice({0, 32}, 32, {0, {1, 2, 3, 4}}), slice({0, 32}, 32, {0, {8, no_slot, 9, 7}}))
        == slot_pairs{{1, 8}, {3, 9}, {4, 7}});
    CHECK(x.slots(slice({0, 16}, 32, {0, {1, 2}}, false), slice({0, 32}, 32, {2, {8, 9}})).empty());
}

TEST_CASE("plan: a block that the target waits for and the source lacks is an error by name") {
    sides x;
    const auto target = slice({0, 32}, 32, {0, {8, 9, 6, 7}});
    for (const auto& blocks : {block_list{0, {1, no_slot, 3, 4}}, block_list{2, {3, 4}},
                               block_list{0, {1}}, block_list{0, {}}}) {
        auto plan = make_plan(x.writer, slice({0, 32}, 32, blocks), x.receiver, target, x.cache);
        REQUIRE_FALSE(plan);
        CHECK(code_of(plan.error()) == errc::plan_invalid);
        const auto block = blocks.slots.size() == 2 || blocks.slots.empty() ? 0 : 1;
        CHECK(text_of(plan.error()).find("block " + std::to_string(block) + ": gen/0 lists") == 0);
    }
    // A slice needs to list only the blocks that it completes.
    CHECK(x.slots(slice({0, 16}, 32, {0, {1, 2}}, false), target) == slot_pairs{{1, 8}, {2, 9}});
    CHECK(x.slots(slice({16, 32}, 32, {2, {3, 4}}), target) == slot_pairs{{3, 6}, {4, 7}});
}

TEST_CASE("plan: only what both windows have let go of may be missing at the source") {
    // Window 24 behind token 32 of the next step: tokens 9 and later are live, blocks 1 to 3.
    sides x;
    const auto everything = slice({0, 32}, 32, {0, {8, 9, 6, 7}});
    auto code = [&](const block_list& source) {
        auto plan =
            make_plan(x.writer, slice({0, 32}, 32, source), x.receiver, everything, x.cache);
        return plan ? errc::none : code_of(plan.error());
    };
    const block_list without_front{1, {2, 3, 4}};
    x.writer.pages->groups[0].live_token_window = 24;
    CHECK(code(without_front) == errc::plan_invalid); // the receiver attends to block 0
    x.receiver.pages->groups[0].live_token_window = 24;
    CHECK(code(without_front) == errc::none);
    CHECK(code({2, {3, 4}}) == errc::plan_invalid);
    x.receiver.pages->groups[0].live_token_window = 25; // reaches token 8
    CHECK(code(without_front) == errc::none);
    x.receiver.pages->groups[0].live_token_window = 26; // reaches token 7, in block 0
    CHECK(code(without_front) == errc::plan_invalid);
}

TEST_CASE("plan: a writer that is one of several CP ranks need not have every block") {
    sides x;
    auto context = make_instance("ctx", {1, 1, 2}, small_format(), 64);
    x.writer = context[1];
    CHECK(x.slots(slice({0, 32}, 32, {0, {no_slot, 2, no_slot, 4}}),
                  slice({0, 32}, 32, {0, {8, 9, 6, 7}}))
          == slot_pairs{{2, 9}, {4, 7}});
}

TEST_CASE("plan: with the same CP on both sides each rank has what its counterpart lists") {
    sides x;
    const auto context = make_instance("ctx", {1, 1, 2}, small_format(), 64);
    const auto generation = make_instance("gen", {1, 1, 2}, small_format(), 64);
    for (std::uint32_t rank = 0; rank < 2; ++rank) {
        const auto found = cohorts_of(generation[rank], context, 0);
        REQUIRE(found);
        CHECK(numbers(found->kv) == std::vector<std::uint32_t>{rank});
    }
    x.writer = context[1];
    x.receiver = generation[1];
    const auto source = slice({0, 32}, 32, {0, {no_slot, 2, no_slot, 4}});
    CHECK(x.slots(source, slice({0, 32}, 32, {0, {no_slot, 9, no_slot, 7}}))
          == slot_pairs{{2, 9}, {4, 7}});
    // Divided in another way, blocks would be missing.
    plan_cache cache;
    const auto other = make_plan(x.writer, source, x.receiver,
                                 slice({0, 32}, 32, {0, {no_slot, no_slot, 9, 7}}), cache);
    REQUIRE_FALSE(other);
    CHECK(code_of(other.error()) == errc::plan_invalid);
}

TEST_CASE("plan: a chunk carries its own blocks only") {
    // 8 blocks, the receiver lists the second half.
    sides x;
    const block_list all{0, {0, 1, 2, 3, 4, 5, 6, 7}};
    const auto target = slice({0, 64}, 64, {4, {14, 15, 16, 17}});
    CHECK(x.slots(slice({0, 32}, 64, all, false), target).empty());
    CHECK(x.slots(slice({32, 64}, 64, all), target)
          == slot_pairs{{4, 14}, {5, 15}, {6, 16}, {7, 17}});
}

TEST_CASE("plan: a block that a chunk leaves incomplete travels with the chunk that completes it") {
    sides x;
    const block_list all{0, {0, 1, 2}};
    const auto target = slice({0, 20}, 20, {0, {10, 11, 12}});
    CHECK(x.slots(slice({0, 12}, 20, all, false), target) == slot_pairs{{0, 10}});
    CHECK(x.slots(slice({12, 20}, 20, all), target) == slot_pairs{{1, 11}, {2, 12}});
    // An empty last slice after one that reached the prompt's end has nothing left to send.
    CHECK(x.slots(slice({12, 20}, 20, all, false), target) == slot_pairs{{1, 11}, {2, 12}});
    CHECK(x.slots(slice({20, 20}, 20, all), target).empty());
}

TEST_CASE("plan: blocks behind the prompt stay where they are") {
    sides x;
    CHECK(x.slots(slice({0, 9}, 9, {0, {1, 2, 3}}), slice({0, 9}, 9, {0, {4, 5, 6}}))
          == slot_pairs{{1, 4}, {2, 5}});
}

TEST_CASE("plan: helix ranks get the blocks that they list") {
    sides x;
    const auto source = slice({0, 32}, 32, {0, {1, 2, 3, 4}});
    CHECK(x.slots(source, slice({0, 32}, 32, {0, {0, no_slot, 1, no_slot}}))
          == slot_pairs{{1, 0}, {3, 1}});
}

TEST_CASE("plan: recurrent state has one slot and travels with the last slice") {
    sides x;
    x.writer.pages->groups[0].tokens_per_slot.reset();
    x.receiver.pages->groups[0].tokens_per_slot.reset();
    const auto target = slice({0, 32}, 32, {0, {9}});
    CHECK(x.slots(slice({0, 16}, 32, {0, {5}}, false), target).empty());
    CHECK(x.slots(slice({16, 32}, 32, {0, {5}}), target) == slot_pairs{{5, 9}});
    for (const auto& none : {block_list{0, {no_slot}}, block_list{}})
        CHECK(
            code_of(
                make_plan(x.writer, slice({16, 32}, 32, none), x.receiver, target, x.cache).error())
            == errc::plan_invalid);
    const auto error =
        make_plan(x.writer, slice({0, 32}, 32, {0, {5, 6}}), x.receiver, target, x.cache).error();
    CHECK(code_of(error) == errc::invalid_argument);
}

TEST_CASE("plan: a slice that does not fit its page table is refused") {
    sides x;
    const auto good = slice({0, 8}, 8, {0, {1}});
    auto code = [&x](const kv_slice& source, const kv_slice& target) {
        auto plan = make_plan(x.writer, source, x.receiver, target, x.cache);
        return plan ? errc::none : code_of(plan.error());
    };
    CHECK(code(good, good) == errc::none);
    auto bad = good;
    bad.groups.clear();
    CHECK(code(bad, good) == errc::invalid_argument);
    CHECK(code(good, bad) == errc::invalid_argument);
    bad = good;
    bad.tokens = {9, 8};
    CHECK(code(bad, good) == errc::invalid_argument);
}

TEST_CASE("plan: sums are those of the template times the slots") {
    sides x;
    x.receiver = make_instance("gen", {2}, small_format(), 64)[1];
    const auto plan = make_plan(x.writer, slice({0, 24}, 24, {0, {1, 2, 3}}), x.receiver,
                                slice({0, 24}, 24, {0, {4, 5, 6}}), x.cache);
    REQUIRE(plan);
    // Per block: 2 layers of K and V, 2 of 4 heads of 8 tokens of 8 elements of 2 bytes.
    CHECK(plan->fragments == 3 * 4);
    CHECK(plan->bytes == 3 * 4 * 2 * 8 * 8 * 2);
}

TEST_CASE("plan_cache: a pair is worked out once, and the pair unused for longest goes first") {
    const auto writers = make_instance("ctx", {4}, small_format());
    const auto receiver = make_instance("gen", {1}, small_format()).front();
    plan_cache cache{2};
    auto ask = [&](std::size_t writer) {
        const auto before = cache.misses();
        REQUIRE(cache.find_or_make(writers[writer], receiver));
        CHECK(cache.size() <= 2);
        return cache.misses() == before;
    };
    CHECK_FALSE(ask(0));
    CHECK_FALSE(ask(1));
    CHECK(ask(0));
    CHECK_FALSE(ask(2)); // evicts the entry of 1
    CHECK(ask(0));
    CHECK_FALSE(ask(1));
}

TEST_CASE("plan_cache: a restarted rank with the same layout at other addresses is known") {
    auto writer = make_instance("ctx", {}, small_format()).front();
    const auto receiver = make_instance("gen", {}, small_format()).front();
    plan_cache cache;
    const auto before = cache.find_or_make(writer, receiver);
    writer.incarnation = incarnation{77};
    writer.pages->pools[0].region_offset_bytes = 4096;
    const auto after = cache.find_or_make(writer, receiver);
    REQUIRE(before);
    REQUIRE(after);
    CHECK(*before == *after);
}

TEST_CASE("layout_digest: every part of a layout changes it, addresses do not") {
    const auto rank = make_instance("ctx", {2}, small_format()).front();
    auto changed = [&rank](auto&& change) {
        auto other = rank;
        change(other);
        CHECK((layout_digest(other) == layout_digest(rank)) == same_layout(other, rank));
        return !same_layout(other, rank);
    };
    CHECK_FALSE(changed([](rank_info& x) { x.pages->pools[0].region = 3; }));
    CHECK_FALSE(changed([](rank_info& x) { x.pages->pools[0].region_offset_bytes = 3; }));
    CHECK_FALSE(changed([](rank_info& x) { x.incarnation = incarnation{3}; }));
    CHECK(changed([](rank_info& x) { x.pages->pools[0].slot_stride_bytes += 64; }));
    CHECK(changed([](rank_info& x) { x.layout.attention_dp = true; }));
    CHECK(changed([](rank_info& x) { x.layout.layers_per_stage = {1, 1}; }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].layers[1] = 9; }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].tokens_per_slot.reset(); }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].views[0].entries[3].offset_bytes += 1; }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].views[0].roles = {"key", "valu"}; }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].views[0].layout.shard_index = 1; }));
    CHECK(changed([](rank_info& x) { x.pages->groups[0].views[0].layout.element_type = "fp8"; }));
    CHECK(changed([](rank_info& x) { x.pages.reset(); }));
}

TEST_CASE("plan_cache: receivers that are alike share templates, however many there are") {
    // MLA: the replicas of the writers take turns by the receiver's DP rank.
    auto format = small_format();
    for (auto kind : {attention_kind::gqa, attention_kind::mla}) {
        format.kind = kind;
        const auto writers = make_instance("ctx", {4}, format);
        const auto receivers = make_instance("gen", {40, 1, 1, true}, format);
        for (const auto& writer : writers) {
            plan_cache shared{256};
            for (const auto& receiver : receivers) {
                plan_cache own;
                auto found = shared.find_or_make(writer, receiver);
                auto made = own.find_or_make(writer, receiver);
                REQUIRE(found);
                REQUIRE(made);
                REQUIRE((*found)->size() == (*made)->size());
                for (std::size_t part = 0; part < (*made)->size(); ++part)
                    CHECK(*(**found)[part].pieces[0].layout == *(**made)[part].pieces[0].layout);
            }
            CHECK(shared.size() <= 4);
            CHECK(shared.misses() == shared.size());
        }
    }
}

TEST_CASE(
    "plan_cache: a rank whose place contradicts itself is refused, even when another is known") {
    const auto writer = make_instance("ctx", {}, small_format()).front();
    auto receiver = make_instance("gen", {}, small_format()).front();
    plan_cache cache;
    REQUIRE(cache.find_or_make(writer, receiver));
    receiver.layout.pp_rank = 1;
    auto refused = cache.find_or_make(writer, receiver);
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::layout_mismatch);
}

TEST_CASE("plan: pools with the same block lists share their slots") {
    auto format = small_format();
    auto apart = [&](const char* name) { // each view in a pool of its own
        auto rank = make_instance(name, {}, format).front();
        auto& pages = *rank.pages;
        auto& view = pages.groups[0].views[0];
        auto other = view;
        const auto half = view.entries.size() / 2;
        other.entries.assign(view.entries.begin() + static_cast<std::ptrdiff_t>(half),
                             view.entries.end());
        view.entries.resize(half);
        other.pool = 1;
        pages.groups[0].views.push_back(other);
        pages.pools.push_back(pages.pools[0]);
        return rank;
    };
    plan_cache cache;
    const auto plan = make_plan(apart("ctx"), slice({0, 24}, 24, {0, {1, 2, 3}}), apart("gen"),
                                slice({0, 24}, 24, {0, {4, 5, 6}}), cache);
    REQUIRE_MESSAGE(plan, describe(plan ? caf::error{} : plan.error()));
    REQUIRE(plan->parts.size() == 2);
    CHECK(plan->parts[0].slots.size() == 3);
    CHECK(plan->parts[0].slots.key() == plan->parts[1].slots.key());
}

TEST_CASE("slot_list: a copy that changes leaves the others as they are") {
    slot_list one{{1, 2}, {3, 4}};
    auto other = one;
    CHECK(one.key() == other.key());
    other.push_back({5, 6});
    CHECK(one == slot_list{{1, 2}, {3, 4}});
    CHECK(other == slot_list{{1, 2}, {3, 4}, {5, 6}});
    CHECK(slot_list{} == slot_list(std::vector<slot_pair>{}));
}
