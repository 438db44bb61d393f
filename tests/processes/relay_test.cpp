// SPDX-License-Identifier: Apache-2.0
// Two instances that say they are on two machines: what the ranks of one need alike comes from the
// other once, and whatever becomes of the rank where it lands, the others get it.
#include "tests/processes/end_to_end.hpp"

#include <algorithm>

namespace kvferry::testing {

namespace {

/// One latent per token, the same on every rank.
const std::string mla_model = "layers=5,head_dim=64,element_bytes=2,tokens_per_block=16,kind=mla";
constexpr std::uint64_t mla_bytes_per_token = 5 * 64 * 2;

std::vector<std::string> on(const std::string& machine, bool relay = true) {
    std::vector<std::string> result{"--machine", machine, "--wire", "tcp"};
    if (relay)
        result.push_back("--relay");
    return result;
}

/// Bytes of the outcome of one rank: from the context, and from siblings.
struct shares {
    std::uint64_t far = 0;
    std::uint64_t near = 0;
    std::string near_route;
};

shares shares_of(const json& outcome) {
    shares result;
    for (const auto& peer : outcome.at("peers")) {
        const auto sibling = peer.contains("sibling");
        (sibling ? result.near : result.far) += peer.at("bytes").get<std::uint64_t>();
        if (sibling)
            result.near_route = peer.at("route");
    }
    return result;
}

std::uint64_t counted(instance_processes& ranks, const char* what) {
    std::uint64_t result = 0;
    for (auto& rank : ranks)
        result += rank->ask({{"do", "statistics"}}).at(what).get<std::uint64_t>();
    return result;
}

/// All generation ranks succeed; returns their shares, in rank order.
std::vector<shares> outcomes(instance_processes& generation, const request& x) {
    std::vector<shares> result;
    for (auto& rank : generation) {
        const auto outcome = rank->outcome(x.rid);
        INFO(outcome.dump());
        CHECK(outcome.at("error").is_null());
        result.push_back(shares_of(outcome));
        rank->released(x.rid);
    }
    for (auto& rank : generation)
        expect_content(*rank, x);
    return result;
}

} // namespace

TEST_CASE("relay: over the link goes one copy, whatever the TP of the side that needs it") {
    instance_processes context{{"context", 2, 1, mla_model, 64, on("a")}};
    instance_processes generation{{"generation", 4, 1, mla_model, 64, on("b")}};
    std::uint64_t expected = 0;
    std::vector<unsigned> landings(4);
    for (std::uint64_t rid = 1; rid <= 8; ++rid) {
        CAPTURE(rid);
        const request x{rid, {0, 1, 2}, {5, 3, 9}, 41, rid % 2 == 0};
        if (rid % 3 == 0)
            send(context, x);
        receive(generation, context.endpoint, x);
        if (rid % 3 != 0)
            send(context, x);
        const auto got = outcomes(generation, x);
        for (auto& rank : context)
            expect_success(*rank, x, "");
        constexpr std::uint64_t copy = 48 * mla_bytes_per_token; // whole blocks travel
        std::uint64_t far = 0;
        for (std::size_t rank = 0; rank < got.size(); ++rank) {
            far += got[rank].far;
            landings[rank] += got[rank].far > 0;
            CHECK(got[rank].far + got[rank].near == copy);
            if (got[rank].near > 0)
                CHECK(got[rank].near_route == "mapped");
        }
        CHECK(far == copy);
        expected += 3 * copy;
    }
    CHECK(counted(generation, "relayed_bytes") == expected);
    CHECK(counted(generation, "relays_given_up") == 0);
    CHECK(std::count(landings.begin(), landings.end(), 0) < 3); // the load is spread
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("relay: ranks that do not take part, and near ones, are sent to as before") {
    const auto far_copies = [](const std::vector<std::string>& context_flags,
                               const std::vector<std::string>& generation_flags) {
        instance_processes context{{"context", 1, 1, mla_model, 64, context_flags}};
        instance_processes generation{{"generation", 2, 1, mla_model, 64, generation_flags}};
        const request x{1, {0, 1, 2}, {5, 3, 9}, 48, true};
        receive(generation, context.endpoint, x);
        send(context, x);
        std::uint64_t far = 0;
        for (const auto& each : outcomes(generation, x))
            far += each.far;
        expect_clean_stop(generation);
        expect_clean_stop(context);
        return far / (48 * mla_bytes_per_token);
    };
    CHECK(far_copies(on("a"), on("b")) == 1);
    CHECK(far_copies(on("a"), on("b", false)) == 2);
    CHECK(far_copies(on("a", false), on("b")) == 1); // the context need not, it only lets others
    CHECK(far_copies(on("a"), on("a")) == 2);
    auto old = on("a");
    old.insert(old.end(), {"--protocol", "6"});
    CHECK(far_copies(old, on("b")) == 2);
}

TEST_CASE("relay: a rank that comes late asks the context itself, and the other ones hold nothing "
          "for it") {
    instance_processes context{{"context", 1, 1, mla_model, 64, on("a")}};
    instance_processes generation{{"generation", 2, 1, mla_model, 64, on("b")}};
    for (std::uint64_t rid : {1, 2, 5}) { // of the first two the late rank is where it would land
        CAPTURE(rid);
        const request x{rid, {0, 1, 2}, {5, 3, 9}, 48, true};
        const auto late = rid % 2;
        const json command{{"do", "receive"},
                           {"rid", x.rid},
                           {"context", context.endpoint},
                           {"slots", x.generation_slots},
                           {"prompt_tokens", x.prompt_tokens},
                           {"deadline_ms", 4000},
                           {"aux", x.aux}};
        send(context, x);
        REQUIRE(generation[1 - late].ask(command).at("event") == "receiving");
        const auto first = generation[1 - late].outcome(x.rid);
        CHECK(first.at("error").is_null());
        generation[1 - late].released(x.rid);
        REQUIRE(generation[late].ask(command).at("event") == "receiving");
        CHECK(generation[late].outcome(x.rid).at("error").is_null());
        generation[late].released(x.rid);
        for (auto& rank : generation)
            expect_content(*rank, x);
        for (auto& rank : context)
            expect_success(*rank, x, "");
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("relay: a rank dies, perhaps that where the bytes were to land, and the others get "
          "theirs, and the next request") {
    instance_processes context{{"context", 1, 1, mla_model, 64, on("a")}};
    instance_processes generation{{"generation", 3, 1, mla_model, 64, on("b")}};
    for (std::uint64_t rid = 1; rid <= 3; ++rid) {
        CAPTURE(rid);
        const request x{rid, {0, 1, 2}, {5, 3, 9}, 48, true};
        receive(generation, context.endpoint, x, {{"deadline_ms", 8000}});
        generation[2].kill();
        send(context, x, {{"deadline_ms", 2000}}); // in vain for the dead one
        for (std::size_t rank = 0; rank < 2; ++rank) {
            const auto outcome = generation[rank].outcome(x.rid);
            INFO(outcome.dump());
            CHECK(outcome.at("error").is_null());
            generation[rank].released(x.rid);
            expect_content(generation[rank], x);
        }
        for (auto& rank : context)
            rank->outcome(x.rid);
        generation.restart(2);
        const request next{rid + 100, {0, 1, 2}, {5, 3, 9}, 48, true};
        receive(generation, context.endpoint, next);
        send(context, next);
        outcomes(generation, next);
        for (auto& rank : context)
            expect_success(*rank, next, "");
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
