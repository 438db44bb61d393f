// SPDX-License-Identifier: Apache-2.0
// The sums of a message: however it is cut into stretches of the same places, and which chunk is
// wrong.
#include "tests/support/random_plan.hpp"
#include "transport/fabric/message_sums.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

message_sums sums_of(const std::vector<placed_stretch>& stretches,
                     const std::vector<std::byte>& bytes) {
    message_adder adder;
    const auto* at = bytes.data();
    for (const auto& x : stretches) {
        adder.add(x.address, at, x.bytes);
        at += x.bytes;
    }
    return adder.value();
}

const std::vector<placed_stretch> stretches{{1000, 4096}, {20000, 10000}, {100, 7}, {90000, 8193}};

} // namespace

TEST_CASE("message_sums: a bit that flips is found, and its chunk is named") {
    const auto sent = random_bytes(4096 + 10000 + 7 + 8193, 1);
    const auto said = sums_of(stretches, sent);
    CHECK(said == sums_of(stretches, sent));
    std::mt19937 random{2};
    for (int round = 0; round < 2000; ++round) {
        auto came = sent;
        auto offset = random() % came.size();
        came[offset] ^= std::byte{1} << random() % 8;
        const auto now = sums_of(stretches, came);
        REQUIRE(now != said);
        const auto where = find_damage(said, now, stretches);
        auto x = stretches.begin();
        for (; offset >= x->bytes; ++x)
            offset -= x->bytes;
        REQUIRE(where.address == x->address + offset / summed_chunk_bytes * summed_chunk_bytes);
        REQUIRE(where.bytes == std::min(summed_chunk_bytes, x->address + x->bytes - where.address));
    }
}

TEST_CASE("message_sums: the right bytes at a wrong address are found") {
    const auto sent = random_bytes(4096 + 10000 + 7 + 8193, 1);
    for (std::size_t index = 0; index < stretches.size(); ++index) {
        auto elsewhere = stretches;
        elsewhere[index].address += 64;
        CHECK(sums_of(elsewhere, sent) != sums_of(stretches, sent));
    }
}

TEST_CASE("message_sums: of several wrong chunks the message's first stretch is named") {
    const auto sent = random_bytes(4096 + 10000 + 7 + 8193, 1);
    auto came = sent;
    came[5000] ^= std::byte{1};
    came[20000] ^= std::byte{4};
    const auto where = find_damage(sums_of(stretches, sent), sums_of(stretches, came), stretches);
    CHECK(where.address == 1000);
    CHECK(where.bytes == 4096);
}
