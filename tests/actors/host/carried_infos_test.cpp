// SPDX-License-Identifier: Apache-2.0
// Instances that find each other over a channel of their hosts: no server, no port.
#include "tests/actors/host/rank_fixture.hpp"
#include "tests/support/contains.hpp"

#include <memory>

using namespace kvferry;
using namespace kvferry::testing;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t blocks = 3;

cache_format format() {
    cache_format result;
    result.layers = 4;
    result.kv_heads = 4;
    result.head_dim = 16;
    result.tokens_per_block = 16;
    return result;
}

worker_options options(bool server) {
    worker_options result;
    result.info_server = server;
    result.bounds.session_deadline = 20s;
    return result;
}

std::vector<byte_buffer> infos_of(test_instance& instance) {
    std::vector<byte_buffer> result;
    for (auto& rank : instance.ranks()) {
        auto info = rank.transfers.local_info();
        REQUIRE_MESSAGE(info, describe(info ? caf::error{} : info.error()));
        result.push_back(std::move(*info));
    }
    return result;
}

/// Returns the address under which the ranks of `to` know it.
std::string carry(const std::vector<byte_buffer>& infos, test_instance& to) {
    std::string result;
    for (auto& rank : to.ranks()) {
        auto address = rank.transfers.add_instance(infos);
        REQUIRE_MESSAGE(address, describe(address ? caf::error{} : address.error()));
        result = *address;
    }
    return result;
}

test_request begin(test_instance& context, test_instance& generation, const std::string& source,
                   std::uint64_t number) {
    test_request result;
    for (auto& rank : context.ranks()) {
        result.sending.push_back(rank.transfers.open_tx(options_of(number)));
        result.sending.back().send(context.slice(rank));
    }
    for (auto& rank : generation.ranks()) {
        result.receiving.push_back(rank.transfers.open_rx(options_of(number), {source, 0}));
        result.receiving.back().receive(generation.slice(rank));
    }
    return result;
}

void serve(test_instance& context, test_instance& generation, const std::string& source,
           std::uint64_t number) {
    for (auto& rank : generation.ranks())
        std::memset(rank.memory.base(), 0, rank.memory.bytes());
    begin(context, generation, source, number).expect(session_state::kv_transferred);
    CHECK(generation.wrong_bytes() == 0);
}

} // namespace

TEST_CASE("carried infos: instances without servers transfer, whatever their splits") {
    runtime system;
    test_instance context{system, "prefill", format(), 2, 1, blocks, options(false)};
    test_instance generation{system, "decode", format(), 1, 2, blocks, options(false)};
    context.fill();
    CHECK(context.endpoint() == "@prefill");
    const auto source = carry(infos_of(context), generation);
    CHECK(source == "@prefill");
    // The ranks of the receiving instance do not know each other yet.
    auto early = generation.ranks()[0].transfers.open_rx(options_of(1), {source, 0});
    CHECK(contains(text_of(early.outcome().get().error), "also of the own instance"));
    carry(infos_of(generation), generation);
    CHECK_FALSE(generation.ranks()[0].transfers.connect({source, 0}, 10s));
    serve(context, generation, source, 2);
}

TEST_CASE("carried infos: instances with a server and instances without one transfer both ways") {
    runtime system;
    test_instance served{system, "served", format(), 1, 1, blocks, options(true)};
    test_instance carried{system, "carried", format(), 1, 1, blocks, options(false)};
    served.fill();
    serve(served, carried, served.endpoint(), 1);
    carried.fill();
    serve(carried, served, carry(infos_of(carried), served), 2);
    const auto own = served.ranks()[0].transfers.add_instance(infos_of(served));
    CHECK(code_of(own.error()) == errc::invalid_argument);
}

TEST_CASE("carried infos: a restarted instance is reached when its new infos were carried") {
    runtime system;
    auto context =
        std::make_unique<test_instance>(system, "prefill", format(), 1, 1, blocks, options(false));
    test_instance generation{system, "decode", format(), 1, 1, blocks, options(false)};
    context->fill();
    const auto source = carry(infos_of(*context), generation);
    serve(*context, generation, source, 1);
    context.reset();
    context =
        std::make_unique<test_instance>(system, "prefill", format(), 1, 1, blocks, options(false));
    context->fill();
    CHECK(carry(infos_of(*context), generation) == source);
    serve(*context, generation, source, 2);
    // Withdrawn and published again it is another incarnation, too.
    auto& rank = context->ranks()[0];
    REQUIRE_FALSE(rank.transfers.unpublish(10s));
    CHECK(code_of(rank.transfers.local_info().error()) == errc::missing_layout);
    REQUIRE(rank.transfers.publish(
        {{rank.memory.base(), rank.memory.bytes(), memory_kind::host_shared, rank.memory.fd()}},
        rank.pages));
    carry(infos_of(*context), generation);
    serve(*context, generation, source, 3);
}

TEST_CASE("carried infos: what is not known, or not any more, fails by name at once") {
    runtime system;
    test_instance context{system, "prefill", format(), 1, 1, blocks, options(false)};
    test_instance generation{system, "decode", format(), 1, 1, blocks, options(false)};
    auto& rank = generation.ranks()[0].transfers;
    const auto error_of = [&](const std::string& source, std::uint64_t number) {
        return rank.open_rx(options_of(number), {source, 0}).outcome().get().error;
    };
    CHECK(code_of(error_of("@nobody", 1)) == errc::instance_incomplete);
    const auto source = carry(infos_of(context), generation);
    CHECK_FALSE(rank.remove_instance(source));
    CHECK(contains(text_of(error_of(source, 2)), "nobody has carried the ranks of @prefill here"));
    auto options_of_both = options(false);
    options_of_both.instance = "wrong";
    options_of_both.layout.layers_per_stage = {4};
    options_of_both.info_endpoint = "127.0.0.1:1";
    CHECK(code_of(system.start_worker(options_of_both).error()) == errc::invalid_argument);
}
