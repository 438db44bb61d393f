// SPDX-License-Identifier: Apache-2.0
// Real links, over UCX, that come and go while another one rests.
#include "tests/actors/host/rank_fixture.hpp"

#include <cstdlib>
#include <memory>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// KVFERRY_SHORT_LINKS: for long runs.
std::uint64_t links_wanted() {
    const char* wanted = std::getenv("KVFERRY_SHORT_LINKS");
    return wanted ? std::stoull(wanted) : 10;
}

cache_format small_format() {
    cache_format result;
    result.layers = 1;
    result.kv_heads = 1;
    result.head_dim = 8;
    result.tokens_per_block = 4;
    return result;
}

void serve(std::uint64_t request, test_instance& context, test_instance& generation) {
    test_request both;
    auto& from = context.ranks()[0];
    auto& to = generation.ranks()[0];
    both.sending.push_back(from.transfers.open_tx(options_of(request)));
    both.sending[0].send(context.slice(from));
    both.receiving.push_back(to.transfers.open_rx(options_of(request), {context.endpoint(), 0}));
    both.receiving[0].receive(generation.slice(to));
    both.expect(session_state::kv_transferred);
    CHECK(generation.wrong_bytes() == 0);
}

} // namespace

TEST_CASE("Links: however many come and go, every dial succeeds and an idle link still hears") {
    runtime system;
    worker_options base;
    bool same_host = true;
    SUBCASE("mapped") {}
    SUBCASE("direct") {
        same_host = false;
    }
    base.same_host_link = same_host;
    test_instance context{system, "prefill", small_format(), 1, 1, 2, base};
    test_instance idle{system, "decode", small_format(), 1, 1, 2, base};
    context.fill();
    serve(1, context, idle);
    const auto links = links_wanted();
    for (std::uint64_t number = 0; number < links; ++number) {
        CAPTURE(number);
        test_instance guest{system, "guest", small_format(), 1, 1, 2, base};
        serve(100 + number, context, guest);
        const auto stopped = guest.ranks()[0].transfers.stop(limits{}.stop_deadline);
        REQUIRE_MESSAGE(stopped, describe(stopped ? caf::error{} : stopped.error()));
    }
    serve(2, context, idle);
    for (auto* each : {&context, &idle}) {
        const auto counted = each->ranks()[0].transfers.statistics();
        REQUIRE(counted);
        CHECK(counted->links_live == 1);
        CHECK(counted->ignored.empty());
    }
}
