// SPDX-License-Identifier: Apache-2.0
// What a benchmark's numbers rely on: no region is used twice in a round, and wrong bytes are
// found.
#include "actors/host/configure.hpp"
#include "doctest/doctest.h"
#include "tests/support/contains.hpp"
#include "tools/bench/memory/host_memory.hpp"
#include "tools/bench/schedule.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::bench;
using kvferry::testing::contains;

namespace {

bench_options small() {
    bench_options x;
    x.regions = 12;
    x.per_block = 3;
    x.region_bytes = 100;
    x.in_flight = 2;
    x.footprint_bytes = 12000;
    return x;
}

std::string refusal(const bench_options& x) {
    init_types();
    auto shape = shape_of(x);
    return shape ? "no refusal" : text_of(shape.error());
}

} // namespace

TEST_CASE("bench: a round uses every region at most once on either side, and all lie in the pool") {
    auto shape = shape_of(small());
    REQUIRE(shape);
    CHECK(shape->slots == 40);
    CHECK(shape->transfers_per_round == 10);
    const schedule plan{*shape};
    std::set<std::uint64_t> sources, targets;
    for (std::uint64_t transfer = 20; transfer < 30; ++transfer)
        plan.for_each_piece(transfer, 0, [&](const piece& x) {
            CHECK(x.source_offset + shape->region_bytes <= shape->pool_bytes(side::context));
            CHECK(x.target_offset + shape->region_bytes <= shape->pool_bytes(side::context));
            sources.insert(x.source_offset);
            targets.insert(x.target_offset);
        });
    CHECK(sources.size() == 120);
    CHECK(targets.size() == 120);
}

TEST_CASE("bench: one wrong byte is one wrong region") {
    auto shape = shape_of(small());
    REQUIRE(shape);
    const schedule plan{*shape};
    auto source = make_host_memory(shape->pool_bytes(side::context), false, 1);
    auto target = make_host_memory(shape->pool_bytes(side::context), false, 1);
    REQUIRE(source);
    REQUIRE(target);
    fill(**source, *shape, 0);
    CHECK(count_wrong(**target, plan, 0, 0, 2) == 24);
    auto limit = (*source)->limit_to((*target)->address());
    REQUIRE(limit);
    (*limit)->run(plan, 0, 0, 2);
    CHECK(count_wrong(**target, plan, 0, 0, 2) == 0);
    CHECK(count_wrong(**target, plan, 0, 0, 3) == 12);

    std::uint64_t last = 0;
    plan.for_each_piece(1, 0, [&](const piece& x) { last = x.target_offset + 99; });
    std::array<std::byte, 1> byte{};
    (*target)->read(last, byte);
    byte[0] ^= std::byte{1};
    (*target)->write(last, byte);
    CHECK(count_wrong(**target, plan, 0, 0, 2) == 1);
}

TEST_CASE("bench: heads split over ranks meet again, whichever side has more of them") {
    for (auto [context_tp, generation_tp] : {std::pair{4u, 2u}, {2u, 4u}, {1u, 2u}}) {
        auto options = small();
        options.context_tp = context_tp;
        options.generation_tp = generation_tp;
        options.tokens_per_block = 3;
        options.per_block = 24;
        options.regions = 48;
        options.in_flight = 1;
        auto shape = shape_of(options);
        REQUIRE(shape);
        CHECK(shape->layers == 24 / (3 * std::max(context_tp, generation_tp)));
        const schedule plan{*shape};
        std::vector<std::unique_ptr<bench_memory>> sources, targets;
        for (std::uint32_t rank = 0; rank < context_tp; ++rank) {
            auto made = make_host_memory(shape->pool_bytes(side::context), false, 1);
            REQUIRE(made);
            fill(**made, *shape, rank);
            sources.push_back(std::move(*made));
        }
        for (std::uint32_t rank = 0; rank < generation_tp; ++rank) {
            auto made = make_host_memory(shape->pool_bytes(side::generation), false, 1);
            REQUIRE(made);
            targets.push_back(std::move(*made));
        }
        std::uint64_t pieces = 0, wrong = 0;
        std::set<std::uint64_t> contents;
        std::vector<std::unique_ptr<limit_loop>> limits; // making a limit clears its target
        for (std::uint32_t head = 0; head < shape->heads; ++head) {
            const auto& target = *targets[head / shape->heads_of(side::generation)];
            auto limit = sources[head / shape->heads_of(side::context)]->limit_to(target.address());
            REQUIRE(limit);
            limits.push_back(std::move(*limit));
        }
        for (std::uint32_t head = 0; head < shape->heads; ++head) {
            limits[head]->run(plan, head, 0, 1);
            plan.for_each_piece(0, head, [&](const piece& x) {
                ++pieces;
                contents.insert(x.content);
            });
        }
        for (std::uint32_t rank = 0; rank < generation_tp; ++rank)
            wrong += count_wrong(*targets[rank], plan, rank, 0, 1);
        CHECK(wrong == 0);
        CHECK(pieces == 48);
        CHECK(contents.size() == 48);
    }
}

TEST_CASE("bench: what cannot be measured is refused by the flag's name") {
    auto x = small();
    x.per_block = 5;
    CHECK(contains(refusal(x), "--per-block 5"));
    x = small();
    x.context_tp = 2;
    CHECK(contains(refusal(x), "--per-block 3 is not a multiple of the 2 regions"));
    x.generation_tp = 3;
    CHECK(contains(refusal(x), "one must divide the other"));
    x = small();
    x.in_flight = 11;
    CHECK(contains(refusal(x), "--footprint 12000"));
    x = small();
    x.repeat = 0;
    CHECK(contains(refusal(x), "--repeat"));
    CHECK(refusal(small()) == "no refusal");
}
