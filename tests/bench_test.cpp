// SPDX-License-Identifier: Apache-2.0
// What a benchmark's numbers rest on: no region twice in a round, and wrong bytes that are seen.
#include "actors/configure.hpp"
#include "doctest/doctest.h"
#include "tests/contains.hpp"
#include "tools/bench/host_memory.hpp"
#include "tools/bench/schedule.hpp"

#include <array>
#include <set>
#include <string>

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
        plan.for_each_piece(transfer, [&](const piece& x) {
            CHECK(x.source_offset + shape->region_bytes <= shape->pool_bytes());
            CHECK(x.target_offset + shape->region_bytes <= shape->pool_bytes());
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
    auto source = make_host_memory(shape->pool_bytes(), false);
    auto target = make_host_memory(shape->pool_bytes(), false);
    REQUIRE(source);
    REQUIRE(target);
    fill(**source, *shape);
    CHECK(count_wrong(**target, plan, 0, 2) == 24);
    auto limit = (*source)->limit_to((*target)->address());
    REQUIRE(limit);
    (*limit)->run(plan, 0, 2);
    CHECK(count_wrong(**target, plan, 0, 2) == 0);
    CHECK(count_wrong(**target, plan, 0, 3) == 12);

    std::uint64_t last = 0;
    plan.for_each_piece(1, [&](const piece& x) { last = x.target_offset + 99; });
    std::array<std::byte, 1> byte{};
    (*target)->read(last, byte);
    byte[0] ^= std::byte{1};
    (*target)->write(last, byte);
    CHECK(count_wrong(**target, plan, 0, 2) == 1);
}

TEST_CASE("bench: what cannot be measured is refused by the flag's name") {
    auto x = small();
    x.per_block = 5;
    CHECK(contains(refusal(x), "--per-block 5"));
    x = small();
    x.in_flight = 11;
    CHECK(contains(refusal(x), "--footprint 12000"));
    x = small();
    x.repeat = 0;
    CHECK(contains(refusal(x), "--repeat"));
    CHECK(refusal(small()) == "no refusal");
}
