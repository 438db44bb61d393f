// SPDX-License-Identifier: Apache-2.0
// Rank infos as differences: nothing is lost, little is sent, and no bytes claim more than allowed.
#include "messages/wire/rank_packing.hpp"
#include "tests/support/allocation_counter.hpp"
#include "tests/support/sample_ranks.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::size_t bytes_max = std::size_t{64} << 20;

/// Ranks as large models have them: a page table of 60 layers, addresses of 400 bytes.
std::vector<rank_info> large_instance(std::uint32_t count, std::uint64_t seed = 1) {
    std::mt19937_64 random{seed};
    std::vector<rank_info> result;
    for (std::uint32_t index = 0; index < count; ++index) {
        auto rank = sample_rank("context", index, count);
        auto& group = rank.pages.emplace().groups.emplace_back();
        auto& view = group.views.emplace_back();
        for (std::uint32_t layer = 0; layer < 60; ++layer) {
            group.layers.push_back(layer);
            view.entries.push_back({layer, layer * 1000, 1000});
        }
        view.layout.shard_index = index;
        rank.incarnation = {random()};
        rank.token = {random()};
        rank.fabric_address.resize(400);
        for (int place = 0; place < 40; ++place)
            rank.fabric_address[static_cast<std::size_t>(place) * 10] =
                static_cast<caf::byte>(random());
        result.push_back(std::move(rank));
    }
    return result;
}

errc refusal(byte_view bytes, std::size_t limit = bytes_max) {
    auto ranks = unpack_ranks(bytes, limit);
    return ranks ? errc::none : code_of(ranks.error());
}

} // namespace

TEST_CASE("rank_packing: ranks come back as they were, whatever differs between them") {
    auto ranks = large_instance(20);
    ranks[3].machine = "another machine";
    ranks[4].pages.reset();
    ranks[5].fabric_address.clear();
    ranks[6].layout.layers_per_stage = {1, 2, 3};
    for (const auto& some : {std::vector<rank_info>{}, std::vector{ranks[0]}, ranks}) {
        auto packed = pack_ranks(some, bytes_max);
        REQUIRE(packed);
        auto back = unpack_ranks(*packed, bytes_max);
        REQUIRE(back);
        CHECK(*back == some);
    }
}

TEST_CASE("rank_packing: a rank costs what it does not share with the one before") {
    const auto one = pack_ranks(large_instance(1), bytes_max)->size();
    const auto many = pack_ranks(large_instance(1001), bytes_max)->size();
    CHECK(one > 1000);
    CHECK((many - one) / 1000 < 250); // 40 places of its address, its numbers
}

TEST_CASE("rank_packing: an instance over its limit is refused on both ways, by name") {
    const auto ranks = large_instance(10);
    const auto packed = pack_ranks(ranks, bytes_max);
    REQUIRE(packed);
    auto refused = pack_ranks(ranks, 5000);
    REQUIRE_FALSE(refused);
    CHECK(code_of(refused.error()) == errc::limit_exceeded);
    CHECK(text_of(refused.error()).find("instance_bytes_max = 5000") != std::string::npos);
    CHECK(refusal(*packed, 5000) == errc::limit_exceeded);
}

TEST_CASE("rank_packing: few bytes that claim to be many ranks cost no memory") {
    auto bomb = *pack_ranks(large_instance(1), bytes_max);
    // "As the one before", as often as fits into a frame.
    const auto whole = pack_ranks({large_instance(1)[0], large_instance(1)[0]}, bytes_max);
    const byte_buffer again{whole->begin() + static_cast<std::ptrdiff_t>(bomb.size()),
                            whole->end()};
    CHECK(again.size() < 8);
    while (bomb.size() < (1 << 20))
        bomb.insert(bomb.end(), again.begin(), again.end());
    std::size_t peak = 0;
    auto code = errc::none;
    {
        allocation_scope counting;
        code = refusal(bomb, 100000);
        peak = counting.peak_bytes();
    }
    CHECK(code == errc::limit_exceeded);
    CHECK(peak < 100000 * decode_memory_factor);
}

TEST_CASE("rank_packing: any bytes are ranks or a named error") {
    const auto packed = *pack_ranks(large_instance(5), bytes_max);
    for (std::size_t length = 1; length < packed.size(); length += 7) {
        const auto code = refusal(byte_view{packed}.subspan(0, length));
        CHECK((code == errc::malformed_message || code == errc::none));
    }
    std::mt19937_64 random{7};
    for (int round = 0; round < 5000; ++round) {
        auto bent = packed;
        for (auto changes = 1 + random() % 4; changes > 0; --changes)
            bent[random() % bent.size()] = static_cast<caf::byte>(random());
        const auto code = refusal(bent, 1 << 20);
        CHECK((code == errc::none || code == errc::malformed_message
               || code == errc::limit_exceeded));
    }
}

TEST_CASE("rank_packing: the digest is that of the bytes, and none is 0") {
    const auto a = *pack_ranks(large_instance(3), bytes_max);
    const auto b = *pack_ranks(large_instance(3, 2), bytes_max);
    CHECK(digest_of_packed(a) == digest_of_packed(a));
    CHECK(digest_of_packed(a) != digest_of_packed(b));
    CHECK(digest_of_packed({}) != 0);
}
