// SPDX-License-Identifier: Apache-2.0
// An id of one kind cannot be used as another kind, or as a number.
#include "messages/values/ids.hpp"

#include <doctest/doctest.h>

#include <map>
#include <tuple>
#include <type_traits>
#include <unordered_set>

using namespace kvferry;

namespace {

using all_ids = std::tuple<rid, attempt, incarnation, link_token, rank_id, slice_index, transfer_id,
                           endpoint_id, region_id>;

template <class From, class To>
constexpr bool mixes =
    std::is_convertible_v<
        From, To> || std::is_assignable_v<To&, From> || std::is_constructible_v<To, From>;

template <class Id, class... Ids>
constexpr bool stands_alone(std::tuple<Ids...>*) {
    return ((std::is_same_v<Id, Ids> || !mixes<Id, Ids>)&&...);
}

template <class... Ids>
constexpr bool all_stand_alone(std::tuple<Ids...>* all) {
    return (stands_alone<Ids>(all) && ...);
}

template <class... Ids>
constexpr bool none_is_a_number(std::tuple<Ids...>*) {
    return (
        (!std::is_convertible_v<Ids,
                                std::uint64_t> && !std::is_convertible_v<std::uint64_t, Ids>)&&...);
}

static_assert(all_stand_alone(static_cast<all_ids*>(nullptr)));
static_assert(none_is_a_number(static_cast<all_ids*>(nullptr)));
static_assert(std::is_trivially_copyable_v<rid> && sizeof(rid) == sizeof(std::uint64_t));

} // namespace

TEST_CASE("ids: they order, hash, compare and print like their numbers") {
    CHECK(rank_id{2} < rank_id{10});
    CHECK(attempt{5} == attempt{5});
    CHECK(attempt{5} != attempt{6});
    CHECK(to_string(incarnation{~std::uint64_t{0}}) == "18446744073709551615");
    CHECK(std::unordered_set<rid>{rid{1}, rid{2}, rid{1}}.size() == 2);
    CHECK(std::map<rank_id, int>{{rank_id{3}, 1}, {rank_id{1}, 2}}.begin()->second == 2);
}

TEST_CASE("ids: a fresh id is zero") {
    CHECK(rid{}.value == 0);
    CHECK(rank_id{}.value == 0);
}
