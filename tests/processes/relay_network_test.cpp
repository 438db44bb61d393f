// SPDX-License-Identifier: Apache-2.0
// One copy for several ranks, between two machines of their own: what the cable really carries, and
// what becomes of the others when the rank dies or gives up where the bytes land.
#include "tests/processes/end_to_end.hpp"
#include "tests/processes/two_machines.hpp"
#include "transport/planner/layout/relay.hpp"

#include <algorithm>

namespace kvferry::testing {

namespace {

/// One latent per token, the same on every rank: 64 KiB a block.
const std::string wide_mla = "layers=8,head_dim=256,element_bytes=2,tokens_per_block=16,kind=mla";
constexpr std::uint64_t block_bytes = 8 * 256 * 2 * 16;
constexpr unsigned blocks = 64; // 4 MiB
constexpr std::uint64_t one_copy = blocks * block_bytes;

using instance_ptr = std::unique_ptr<instance_processes>;

instance_ptr start(two_machines& net, const std::string& machine, const std::string& name,
                   unsigned tp, bool relay = true) {
    std::vector<std::string> flags{
        "--bind",    machine == net.prefill ? prefill_address : decode_address,
        "--machine", machine,
        "--wire",    "tcp",
        "--insecure"};
    if (relay)
        flags.push_back("--relay");
    return run_on(machine, "eth", [&] {
        return std::make_unique<instance_processes>(
            instance_processes::options{name, tp, 1, wide_mla, 2 * blocks, flags});
    });
}

request wide(std::uint64_t rid) {
    return whole_blocks(rid, blocks, 16, static_cast<int>(rid % 2) * static_cast<int>(blocks));
}

std::size_t landing_of(std::uint64_t rid, std::uint32_t ranks) {
    std::vector<rank_id> all;
    for (std::uint32_t rank = 0; rank < ranks; ++rank)
        all.push_back({rank});
    return landing_rank(all, {rid}).value;
}

/// What a rank got from the context.
std::uint64_t far_bytes(const json& outcome) {
    std::uint64_t result = 0;
    for (const auto& peer : outcome.at("peers"))
        result += peer.contains("sibling") ? 0 : peer.at("bytes").get<std::uint64_t>();
    return result;
}

/// In the middle of it something happens to one of three ranks: that where the bytes land, or one
/// that takes them from there.
struct under_way {
    explicit under_way(two_machines& net, std::uint64_t rid)
        : x(wide(rid)), landing(landing_of(rid, 3)), context(start(net, net.prefill, "context", 1)),
          generation(start(net, net.decode, "generation", 3)) {
        net.cable->set(bad_cable::b_to_a, {.bytes_per_second = 2'000'000});
        receive(*generation, context->endpoint, x, {{"deadline_ms", 40000}});
        send(*context, x, {{"deadline_ms", 40000}});
        await_block((*generation)[landing], x, 8);
        net.cable->heal();
    }

    rank_process& rank(std::size_t number) { return (*generation)[number % 3]; }

    /// The ranks beside this one.
    void others_get_it(std::size_t but) {
        for (std::size_t number = 0; number < 3; ++number) {
            if (number == but % 3)
                continue;
            const auto outcome = rank(number).outcome(x.rid, 60s);
            INFO(outcome.dump());
            CHECK(outcome.at("error").is_null());
            rank(number).released(x.rid);
            expect_content(rank(number), x);
        }
    }
    /// A request that one rank cancels is none for the others either.
    void cancel_at(std::size_t number) {
        rank(number).ask({{"do", "cancel"}, {"rid", x.rid}});
        for (std::size_t each = 0; each < 3; ++each) {
            const auto outcome = rank(each).outcome(x.rid);
            INFO(outcome.dump());
            CHECK(outcome.at("state") == "CANCELLED");
            rank(each).released(x.rid);
        }
        CHECK((*context)[0].outcome(x.rid).at("state") == "CANCELLED");
        (*context)[0].released(x.rid);
        const auto next = wide(x.rid + 100);
        receive(*generation, context->endpoint, next);
        send(*context, next);
        for (std::size_t each = 0; each < 3; ++each)
            expect_success(rank(each), next, "");
        for (auto& each : *generation)
            expect_content(*each, next);
    }

    request x;
    std::size_t landing;
    instance_ptr context;
    instance_ptr generation;
};

} // namespace

TEST_CASE(
    "relay over a network: the cable carries one copy for all ranks of a machine, and as many "
    "as ranks without it") {
    REQUIRE_MACHINES(two_machines, net)
    for (auto relay : {true, false}) {
        CAPTURE(relay);
        auto context = start(net, net.prefill, "context", 2, relay);
        auto generation = start(net, net.decode, "generation", 4, relay);
        const auto warm = whole_blocks(1, 1, 16); // dials
        receive(*generation, context->endpoint, warm);
        send(*context, warm);
        for (auto& rank : *generation)
            expect_success(*rank, warm, "");
        for (std::uint64_t rid = 2; rid <= 4; ++rid) {
            CAPTURE(rid);
            const auto x = wide(rid);
            const auto before = net.bytes_at_decode();
            receive(*generation, context->endpoint, x);
            send(*context, x);
            std::uint64_t far = 0;
            for (auto& rank : *generation) {
                const auto outcome = rank->outcome(rid);
                INFO(outcome.dump());
                CHECK(outcome.at("error").is_null());
                far += far_bytes(outcome);
                rank->released(rid);
                expect_content(*rank, x);
            }
            const auto carried = net.bytes_at_decode() - before;
            const auto copies = relay ? 1 : 4;
            CHECK(far == copies * one_copy);
            CHECK(carried >= copies * one_copy);
            CHECK(carried < copies * one_copy + one_copy / 2); // headers, and what was sent again
        }
        expect_clean_stop(*generation);
    }
}

TEST_CASE("relay over a network: the rank is killed where the bytes land, and the others ask the "
          "context themselves") {
    REQUIRE_MACHINES(two_machines, net)
    under_way transfer{net, 7};
    transfer.rank(transfer.landing).kill();
    transfer.others_get_it(transfer.landing);
    CHECK((*transfer.context)[0].outcome(7).at("state") == "ERROR"); // one rank has not got it
    (*transfer.context)[0].released(7);
}

TEST_CASE("relay over a network: a rank is killed that takes the bytes from another one, and the "
          "others get theirs") {
    REQUIRE_MACHINES(two_machines, net)
    under_way transfer{net, 9};
    transfer.rank(transfer.landing + 1).kill();
    transfer.others_get_it(transfer.landing + 1);
}

TEST_CASE("relay over a network: whichever rank cancels, all end, pages come back, and the next "
          "request goes well") {
    REQUIRE_MACHINES(two_machines, net)
    under_way transfer{net, 8};
    SUBCASE("where the bytes land") {
        transfer.cancel_at(transfer.landing);
    }
    SUBCASE("another one") {
        transfer.cancel_at(transfer.landing + 1);
    }
}

} // namespace kvferry::testing
