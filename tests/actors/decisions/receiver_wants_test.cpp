// SPDX-License-Identifier: Apache-2.0
// What a request says about the prefix that its receiver has.
#include "actors/decisions/receiver_wants.hpp"
#include "messages/type_ids.hpp"

#include <doctest/doctest.h>

using namespace kvferry;

namespace {

rank_info receiver() {
    rank_info result;
    result.rank = {3};
    page_table pages;
    pages.groups.resize(3);
    pages.groups[0].tokens_per_slot = 16;
    pages.groups[1].tokens_per_slot = 8;
    pages.groups[1].live_token_window = 32;
    result.pages = std::move(pages); // the third group is a recurrent state
    return result;
}

kv_slice slice(std::vector<block_list> groups) {
    kv_slice result;
    result.prompt_tokens = 100;
    result.tokens = {0, 100};
    result.groups = std::move(groups);
    return result;
}

} // namespace

TEST_CASE("receiver_wants: the prefix ends at the first block of full attention that is wanted") {
    const auto wants = wants_of(receiver(), slice({{2, {no_slot, 5, 6}}, {10, {1, 2}}, {0, {9}}}));
    CHECK(wants.rank == rank_id{3});
    CHECK(wants.prompt_tokens == 100);
    CHECK(wants.prefix_tokens == 48); // blocks 0..2 are not wanted; windows let go of more
    CHECK(wants.blocks == 5);
}

TEST_CASE("receiver_wants: where all layers have windows, these say it") {
    auto rank = receiver();
    rank.pages->groups[0].live_token_window = 64;
    CHECK(wants_of(rank, slice({{4, {1}}, {9, {1}}, {0, {}}})).prefix_tokens == 64);
}

TEST_CASE("receiver_wants: who wants nothing has the whole prompt") {
    const auto wants = wants_of(receiver(), slice({{0, {no_slot}}, {0, {}}, {0, {}}}));
    CHECK(wants.prefix_tokens == 100);
    CHECK(wants.blocks == 0);
}
