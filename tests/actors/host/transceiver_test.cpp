// SPDX-License-Identifier: Apache-2.0
// The calls of an executor loop, on whole ranks over the loopback world.
#include "actors/host/loopback_world.hpp"
#include "actors/host/transceiver.hpp"
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

class pair_of_ranks {
public:
    runtime system;

    explicit pair_of_ranks(aux_mode aux = aux_mode::none, limits bounds = {})
        : options_(options_for(system, bounds)), context_{system, "prefill", format(), 1,
                                                          1,      3,         options_},
          generation_{system, "decode", format(), 1, 1, 3, options_},
          prefill{system.system(), context_.ranks()[0].transfers, aux},
          decode{system.system(), generation_.ranks()[0].transfers, aux} {
        context_.fill();
    }

    kv_slice source() { return context_.slice(context_.ranks()[0]); }
    kv_slice target() { return generation_.slice(generation_.ranks()[0]); }
    std::size_t wrong_bytes() { return generation_.wrong_bytes(); }

private:
    static cache_format format() {
        cache_format result;
        result.layers = 2;
        result.kv_heads = 2;
        result.head_dim = 16;
        result.tokens_per_block = 8;
        return result;
    }

    static worker_options options_for(runtime& system, limits bounds) {
        worker_options result;
        result.bounds = bounds;
        result.world = std::make_shared<loopback_world>(system.system());
        return result;
    }

    worker_options options_;
    test_instance context_;
    test_instance generation_;

public:
    transceiver prefill;
    transceiver decode;
};

} // namespace

TEST_CASE("transceiver: a request is reported once on both sides, with its aux, when its pages are "
          "free") {
    pair_of_ranks test{aux_mode::required};
    CHECK_FALSE(test.decode.request_and_receive_async({7}, test.target(), test.prefill.address()));
    CHECK(test.decode.has_inflight_transfer({7}));
    CHECK_FALSE(test.decode.check_gen_transfer_complete());
    test.prefill.respond_and_send_async({7}, test.source(), aux_record{{42}, {1, 2}, 24, 0, {}});
    auto received = test.decode.check_gen_transfer_status(std::nullopt);
    REQUIRE(received.completed.size() == 1);
    CHECK(received.completed[0].request == rid{7});
    CHECK(received.completed[0].aux.first_tokens == std::vector<std::int32_t>{42});
    CHECK(received.completed[0].bytes > 0);
    CHECK(test.wrong_bytes() == 0);
    auto sent = test.prefill.check_context_transfer_status(std::nullopt);
    REQUIRE(sent.completed.size() == 1);
    CHECK(sent.completed[0].bytes == received.completed[0].bytes);
    CHECK(test.decode.check_gen_transfer_status(0).completed.empty());
    CHECK(test.decode.check_gen_transfer_complete());
    CHECK(test.decode.get_status_dump() == "no requests");
}

TEST_CASE("transceiver: a generation-first request is ready when every receiver has asked, and "
          "told once") {
    pair_of_ranks test;
    CHECK(test.prefill.prepare_context_requests({{7}, {8}}).empty());
    CHECK(test.prefill.get_status_dump() == "context waiting for receivers: 2");
    CHECK_FALSE(test.decode.request_and_receive_async({8}, test.target(), test.prefill.address()));
    std::vector<rid> ready;
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (ready.empty() && std::chrono::steady_clock::now() < limit)
        ready = test.prefill.prepare_context_requests({});
    CHECK(ready == std::vector<rid>{{8}});
    CHECK(test.prefill.prepare_context_requests({{8}}).empty());
    test.prefill.respond_and_send_async({8}, test.source());
    CHECK(test.decode.check_gen_transfer_status(1, 20s).completed.size() == 1);
    while (!test.prefill.cancel_request({7}) && std::chrono::steady_clock::now() < limit)
        ;
    auto ended = test.prefill.check_context_transfer_status(std::nullopt);
    CHECK(ended.completed.size() == 1);
    REQUIRE(ended.cancelled.size() == 1);
    CHECK(ended.cancelled[0].request == rid{7});
}

TEST_CASE(
    "transceiver: a blocking receive brings the bytes; its request is reported all the same") {
    pair_of_ranks test;
    test.prefill.respond_and_send_async({3}, test.source());
    auto outcome = test.decode.request_and_receive_sync({3}, test.target(), test.prefill.address());
    CHECK(outcome.state == session_state::kv_transferred);
    CHECK(test.wrong_bytes() == 0);
    CHECK(test.decode.check_gen_transfer_status(1, 20s).completed.size() == 1);
}

TEST_CASE("transceiver: a second receive of a live rid is refused and disturbs nothing") {
    pair_of_ranks test;
    CHECK_FALSE(test.decode.request_and_receive_async({3}, test.target(), test.prefill.address()));
    auto twice = test.decode.request_and_receive_async({3}, test.target(), test.prefill.address());
    CHECK(code_of(twice) == errc::duplicate);
    CHECK(contains(describe(twice), "rid 3"));
    test.prefill.respond_and_send_async({3}, test.source());
    CHECK(test.decode.check_gen_transfer_status(1, 20s).completed.size() == 1);
}

TEST_CASE("transceiver: a failed request is reported as failed, with the reason") {
    limits bounds;
    bounds.session_deadline = 100ms; // no context rank sends
    pair_of_ranks test{aux_mode::none, bounds};
    CHECK_FALSE(test.decode.request_and_receive_async({5}, test.target(), test.prefill.address()));
    auto ended = test.decode.check_gen_transfer_status(std::nullopt);
    if (ended.failed.empty()) // the session failed before the context said that it writes nothing
        ended = test.decode.check_gen_transfer_status(1, 20s);
    REQUIRE(ended.failed.size() == 1);
    CHECK(code_of(ended.failed[0].error) == errc::deadline_exceeded);
    CHECK(test.decode.cancel_request({5}));
}
