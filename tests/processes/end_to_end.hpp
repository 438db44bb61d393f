// SPDX-License-Identifier: Apache-2.0
// Requests between two instances of rank processes, as the end-to-end tests speak of them.
#pragma once

#include "tests/processes/rank_process.hpp"

#include <doctest/doctest.h>

#include <numeric>
#include <string>
#include <vector>

namespace kvferry::testing {

/// Small enough for many requests, with every dimension of a cache above one.
inline const std::string small_model =
    "layers=5,heads=4,head_dim=16,element_bytes=2,tokens_per_block=16";
inline constexpr std::uint64_t small_bytes_per_token = 5 * 2 * 4 * 16 * 2;

/// A block is 512 KiB. Towards a split by heads it breaks into stretches of 512 bytes.
inline const std::string large_model =
    "layers=8,heads=8,head_dim=64,element_bytes=2,tokens_per_block=32,order=nhd";
inline constexpr unsigned large_blocks = 512;

struct request {
    std::uint64_t rid = 0;
    std::vector<int> context_slots;
    std::vector<int> generation_slots;
    unsigned prompt_tokens = 0;
    bool aux = false;

    std::uint64_t seed() const { return rid * 1000 + 1; }
};

inline std::vector<int> slots_from(int first, unsigned count) {
    std::vector<int> result(count);
    std::iota(result.begin(), result.end(), first);
    return result;
}

/// The --memory for a route. The staged route needs memory on a device, or its stand-in.
inline std::string memory_of(const std::string& route) {
    return route.starts_with("staged") ? "twin" : "shared";
}

/// Flags of a writer that takes this route. "staged, sent": sends even to peers of this machine,
/// which could read the bytes in place; "direct, tcp": over that wire, as between machines.
inline std::vector<std::string> flags_of(const std::string& route) {
    std::vector<std::string> result{"--route", route.substr(0, route.find(',')), "--memory",
                                    memory_of(route)};
    if (route.ends_with("sent"))
        result.push_back("--send-staged");
    for (const std::string wire : {"tcp", "ucx"})
        if (route.ends_with(", " + wire))
            result.insert(result.end(), {"--wire", wire, "--no-same-host-link"});
    return result;
}

/// A request that fills its blocks, at the same slots on both sides.
inline request whole_blocks(std::uint64_t rid, unsigned blocks, unsigned tokens_per_block,
                            int first_slot = 0) {
    const auto slots = slots_from(first_slot, blocks);
    return {rid, slots, slots, blocks * tokens_per_block, false};
}

/// The context ranks hold the prompt and hand it over. `more` goes into the command.
inline void send(instance_processes& context, const request& x, const json& more = json::object()) {
    for (auto& rank : context) {
        const auto filled = rank->ask({{"do", "fill"},
                                       {"slots", x.context_slots},
                                       {"prompt_tokens", x.prompt_tokens},
                                       {"seed", x.seed()}});
        REQUIRE(filled.at("event") == "filled");
        json command{{"do", "send"},
                     {"rid", x.rid},
                     {"slots", x.context_slots},
                     {"prompt_tokens", x.prompt_tokens}};
        command.update(more);
        if (x.aux)
            command["aux"] = {{"first_tokens", {static_cast<int>(x.rid)}},
                              {"draft_tokens", {4, 5}}};
        REQUIRE(rank->ask(command).at("event") == "sending");
    }
}

inline void receive(instance_processes& generation, const std::string& endpoint, const request& x,
                    const json& more = json::object()) {
    for (auto& rank : generation) {
        json command{{"do", "receive"},
                     {"rid", x.rid},
                     {"context", endpoint},
                     {"slots", x.generation_slots},
                     {"prompt_tokens", x.prompt_tokens},
                     {"aux", x.aux}};
        command.update(more);
        REQUIRE(rank->ask(command).at("event") == "receiving");
    }
}

/// The final success of a request, on one rank.
inline void expect_success(rank_process& rank, const request& x, const std::string& route) {
    const auto outcome = rank.outcome(x.rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == (x.aux ? "FULLY_TRANSFERRED" : "KV_TRANSFERRED"));
    CHECK(outcome.at("error").is_null());
    CHECK(outcome.at("route").get<std::string>().starts_with(route.substr(0, route.find(','))));
    rank.released(x.rid);
}

inline void expect_content(rank_process& rank, const request& x) {
    const auto found = rank.ask({{"do", "check"},
                                 {"slots", x.generation_slots},
                                 {"prompt_tokens", x.prompt_tokens},
                                 {"seed", x.seed()}});
    INFO(found.dump());
    CHECK(found.at("ok") == true);
    CHECK(found.at("bytes") > 0);
}

/// Waits until a block has begun to arrive from every writer: then the transfer is under way.
inline void await_block(rank_process& rank, const request& x, unsigned block) {
    const auto answer = rank.ask({{"do", "await"},
                                  {"slot", x.generation_slots.at(block)},
                                  {"block", block},
                                  {"seed", x.seed()}});
    INFO(answer.dump());
    REQUIRE(answer.at("event") == "arrived");
}

inline std::uint64_t digest(rank_process& rank, const std::vector<int>& slots) {
    return rank.ask({{"do", "digest"}, {"slots", slots}}).at("value");
}

/// Checks that nothing is live, on loan or failed, and that every rank stops in order.
inline void expect_clean_stop(instance_processes& instance) {
    for (auto& rank : instance) {
        const auto counters = rank->ask({{"do", "statistics"}});
        INFO(counters.dump());
        CHECK(counters.at("sessions_live") == 0);
        CHECK(counters.at("sessions_quarantined") == 0);
        CHECK(counters.at("handler_failures") == 0);
        CHECK(rank->children() == 0);
        json stopped;
        CHECK(rank->stop(&stopped) == 0);
        INFO(stopped.dump() << rank->log());
        CHECK(stopped.at("unproven").empty());
        CHECK(stopped.at("error").is_null());
    }
}

} // namespace kvferry::testing
