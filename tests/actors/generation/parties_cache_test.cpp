// SPDX-License-Identifier: Apache-2.0
// Parties are worked out once, and never kept longer than what they follow from.
#include "actors/generation/parties_cache.hpp"
#include "messages/type_ids.hpp"
#include "tests/support/planner_ranks.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::vector<rank_info> instance(const std::string& name, const split& x) {
    cache_format format;
    format.layers = 1;
    format.kv_heads = 2;
    format.head_dim = 4;
    format.tokens_per_block = 4;
    return make_instance(name, x, format);
}

instance_ranks ranks(const std::string& name, const split& x) {
    return std::make_shared<const std::vector<rank_info>>(instance(name, x));
}

} // namespace

TEST_CASE("parties_cache: works each kind out once, and anew when the own instance has answered "
          "anew") {
    const auto own = ranks("gen", split{1});
    const parties_cache tested{own->front()};
    instance_answer context{*ranks("ctx", split{2})};
    const parties_wanted any;
    const parties_wanted with_aux{.aux = aux_mode::required};
    const auto of = [&](const parties_wanted& wanted, const instance_ranks& own_ranks) {
        const auto& known = tested.of("ctx:1", wanted, own_ranks, context);
        REQUIRE(known);
        return *known;
    };
    const auto first = of(any, own);
    CHECK(first->writers.size() == 2);
    CHECK(of(with_aux, own) != first);
    CHECK(of(any, own) == first);
    CHECK(of(any, ranks("gen", split{1})) != first);
}

TEST_CASE("parties_cache: knows an instance that has this very rank") {
    auto own = instance("gen", split{1});
    own.front().incarnation = {7};
    const parties_cache tested{own.front()};
    instance_answer itself{own};
    CHECK(tested.has_self(itself));
    own.front().incarnation = {8};
    instance_answer other{own};
    CHECK_FALSE(tested.has_self(other));
}
