// SPDX-License-Identifier: Apache-2.0
// Requests of receivers whose bytes come from a sibling, and of siblings themselves.
#include "actors/context/request_check.hpp"
#include "messages/limits.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/planner_ranks.hpp"
#include "tests/support/shared_part.hpp"
#include "transport/planner/layout/relay.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

cache_format mla_format() {
    cache_format result;
    result.layers = 2;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    result.kind = attention_kind::mla;
    return result;
}

struct ranks {
    std::vector<rank_info> context = make_instance("ctx", {1}, mla_format());
    std::vector<rank_info> generation = make_instance("gen", {2}, mla_format());
    plan_cache plans;
    request_data request;

    caf::error answer() {
        const auto layout =
            check_request(request, context[0], generation[1], aux_mode::none, {}, plans);
        return layout ? caf::error{} : layout.error();
    }
};

} // namespace

TEST_CASE("request_check: no KV is wanted of a writer that has some only if it came otherwise") {
    ranks x;
    CHECK_FALSE(x.answer());
    x.request.kv = false;
    CHECK(code_of(x.answer()) == errc::layout_mismatch);
    x.request.relayed = true;
    CHECK_FALSE(x.answer());
    x.request.kv = true; // it says both: it wants the bytes
    CHECK_FALSE(x.answer());
}

TEST_CASE(
    "request_check: a rank hands on to replicas of its instance what the same context sends") {
    ranks x;
    const auto& holder = x.generation[0];
    const auto digest = relay_digest(x.context);
    x.request.header.relay = true;
    x.request.relay_of = digest;
    CHECK_FALSE(check_relay(x.request, holder, x.generation[1], digest, {}));
    CHECK(code_of(check_relay(x.request, holder, x.context[0], digest, {}))
          == errc::layout_mismatch);
    auto other = x.generation[1];
    other.pages->groups[0].layers[0] += 1;
    const auto refusal = check_relay(x.request, holder, other, digest, {});
    CHECK(code_of(refusal) == errc::layout_mismatch);
    CHECK(contains(text_of(refusal), "gen/0"));
    CHECK(contains(text_of(refusal), "gen/1"));
    x.request.relay_of += 1;
    CHECK(code_of(check_relay(x.request, holder, x.generation[1], digest, {})) == errc::gone);
}

TEST_CASE("request_check: of a part, a rank hands on what lands there and nothing else") {
    auto format = mla_format();
    format.kind = attention_kind::gqa;
    format.kv_heads = 2;
    const auto own = with_latents(make_instance("gen", {2}, format));
    request_data request;
    request.header.relay = true;
    request.relay_of = 5;
    request.views = {latent};
    CHECK_FALSE(check_relay(request, own[0], own[1], 5, {latent}));
    CHECK(code_of(check_relay(request, own[0], own[1], 5, {{0, 7}})) == errc::layout_mismatch);
    request.views = {heads}; // of its own on each
    CHECK(code_of(check_relay(request, own[0], own[1], 5, {heads})) == errc::layout_mismatch);
    request.views = {}; // all that it holds
    CHECK(code_of(check_relay(request, own[0], own[1], 5, {latent})) == errc::layout_mismatch);
}

TEST_CASE("request_check: views that the receiver does not have are refused") {
    ranks x;
    CHECK_FALSE(check_views(x.request, x.generation[0]));
    x.request.views = {{0, 0}};
    CHECK_FALSE(check_views(x.request, x.generation[0]));
    x.request.views = {{0, 1}};
    CHECK(code_of(check_views(x.request, x.generation[0])) == errc::invalid_argument);
    x.request.views = {{1, 0}};
    CHECK(code_of(check_views(x.request, x.generation[0])) == errc::invalid_argument);
}
