// SPDX-License-Identifier: Apache-2.0
// A cache that is sent layer by layer, as an engine computes it.
#include "actors/host/loopback_world.hpp"
#include "tests/actors/host/rank_fixture.hpp"

#include <random>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::uint32_t layers = 6;
constexpr std::uint32_t blocks = 5;

cache_format format_of() {
    cache_format format;
    format.layers = layers;
    format.kv_heads = 4;
    format.head_dim = 16;
    format.tokens_per_block = 8;
    return format;
}

worker_options options_for(runtime& system, bool loopback) {
    worker_options options;
    options.bounds.session_deadline = std::chrono::seconds{20};
    options.bounds.digests = digest_level::memory;
    if (loopback)
        options.world = std::make_shared<loopback_world>(system.system());
    return options;
}

void receive_all(test_instance& to, test_instance& from, test_request& request, std::uint64_t id) {
    for (auto& rank : to.ranks()) {
        request.receiving.push_back(rank.transfers.open_rx(options_of(id), {from.endpoint(), 0}));
        request.receiving.back().receive(to.slice(rank));
    }
}

} // namespace

TEST_CASE("Layers: a request sent as slices of some layers, in any order, arrives whole") {
    std::mt19937 random{5};
    for (bool loopback : {true, false}) {
        CAPTURE(loopback);
        runtime system;
        const auto base = options_for(system, loopback);
        test_instance context{system, "prefill", format_of(), 2, 2, blocks, base};
        test_instance generation{system, "decode", format_of(), 1, 2, blocks, base};
        context.fill();
        test_request request;
        receive_all(generation, context, request, 1);
        for (auto& rank : context.ranks()) {
            auto session = rank.transfers.open_tx(options_of(1));
            auto whole = context.slice(rank);
            const auto prompt = whole.prompt_tokens;
            std::vector<std::pair<token_range, layer_range>> pieces;
            for (const auto tokens : {token_range{0, 12}, token_range{12, prompt}})
                for (std::uint32_t layer = 0; layer < layers; ++layer)
                    pieces.emplace_back(tokens, layer_range{layer, layer + 1});
            std::shuffle(pieces.begin(), pieces.end(), random);
            for (std::size_t index = 0; index < pieces.size(); ++index) {
                auto slice = whole;
                std::tie(slice.tokens, slice.layers) = pieces[index];
                slice.last = index + 1 == pieces.size();
                session.send(slice);
            }
            request.sending.push_back(session);
        }
        request.expect(session_state::kv_transferred);
        CHECK(generation.wrong_bytes() == 0);
    }
}

TEST_CASE("Layers: a layer that no slice speaks for is an error of both sides, not a success") {
    runtime system;
    const auto base = options_for(system, true);
    test_instance context{system, "prefill", format_of(), 1, 1, blocks, base};
    test_instance generation{system, "decode", format_of(), 1, 1, blocks, base};
    context.fill();
    const auto expect_missing = [&](std::uint64_t id, const std::vector<kv_slice>& slices,
                                    const char* what) {
        test_request request;
        receive_all(generation, context, request, id);
        request.sending.push_back(context.ranks()[0].transfers.open_tx(options_of(id)));
        for (const auto& slice : slices)
            request.sending[0].send(slice);
        request.expect(session_state::error);
        for (const auto& error : {request.sending[0].outcome().get().error,
                                  request.receiving[0].outcome().get().error}) {
            CHECK(code_of(error) == errc::plan_invalid);
            CHECK_MESSAGE(text_of(error).find(what) != std::string::npos, text_of(error));
        }
    };
    auto some = context.slice(context.ranks()[0]);
    some.layers = {0, 4};
    expect_missing(1, {some}, "speaks for token 0 in layer 4");
    auto first = context.slice(context.ranks()[0]);
    auto second = first;
    first.tokens.end = 16;
    first.last = false;
    second.tokens.begin = 24; // as before layers were named: a hole in the prompt
    expect_missing(2, {first, second}, "speaks for token 16 in layer 0");
}

TEST_CASE("Layers: no layers, or a receiver that wants some only, is a wrong call") {
    runtime system;
    const auto base = options_for(system, true);
    test_instance context{system, "prefill", format_of(), 1, 1, blocks, base};
    auto slice = context.slice(context.ranks()[0]);
    slice.layers = {3, 3};
    auto sending = context.ranks()[0].transfers.open_tx(options_of(1));
    sending.send(slice);
    CHECK(code_of(sending.outcome().get().error) == errc::invalid_argument);
    slice.layers = {0, 3};
    auto receiving = context.ranks()[0].transfers.open_rx(options_of(2), {context.endpoint(), 0});
    receiving.receive(slice);
    CHECK(code_of(receiving.outcome().get().error) == errc::invalid_argument);
}
