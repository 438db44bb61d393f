// SPDX-License-Identifier: Apache-2.0
// `kvferry bench plan`: its options and its two forms of answer.
#include "tools/bench/planning/planning.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/common/text.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <iostream>
#include <memory>

namespace kvferry {

namespace bench {

namespace {} // namespace

std::string text_of(const planning_result& result) {
    using demo::align;
    std::vector<std::vector<std::string>> rows;
    for (const auto& x : result.cases)
        rows.push_back({x.shape.name, std::to_string(x.shape.layers),
                        std::to_string(x.shape.blocks), std::to_string(x.fragments),
                        std::to_string(x.runs), demo::tenths_text(x.first_us),
                        demo::tenths_text(x.cached_us), demo::tenths_text(x.check_us)});
    std::string text = "TP 4 to TP 2, rank 0 to rank 0, 8 KV heads of 128 elements of 2 bytes; "
                       "medians in us\n\n";
    for (const auto& line : demo::format_table({{"case"},
                                                {"layers", align::right},
                                                {"blocks", align::right},
                                                {"fragments", align::right},
                                                {"runs", align::right},
                                                {"first", align::right},
                                                {"cached", align::right},
                                                {"check", align::right}},
                                               rows))
        text += line + "\n";
    return text + "\na request for 1000 blocks of 80 layers is "
           + std::to_string(result.request_bytes) + " bytes long\n";
}

std::string json_of(const planning_result& result) {
    nlohmann::ordered_json json{{"cases", nlohmann::ordered_json::array()}};
    for (const auto& x : result.cases)
        json["cases"].push_back(
            {{"name", x.shape.name},
             {"layers", x.shape.layers},
             {"blocks", x.shape.blocks},
             {"layout", x.shape.token_major ? "nhd" : "hnd"},
             {"context_tokens_per_block", x.shape.context_tokens_per_block},
             {"generation_tokens_per_block", x.shape.generation_tokens_per_block},
             {"fragments", x.fragments},
             {"bytes", x.bytes},
             {"runs", x.runs},
             {"first_us", x.first_us},
             {"cached_us", x.cached_us},
             {"check_us", x.check_us}});
    json["request"] = {{"blocks", 1000}, {"layers", 80}, {"bytes", result.request_bytes}};
    return json.dump();
}

} // namespace bench

namespace {

int run_planning(std::uint32_t rounds, bool json) {
    auto result = bench::measure_planning(rounds);
    if (!result) {
        tools::people_errors() << "kvferry bench plan: " << describe(result.error()) << "\n";
        return exit_failure;
    }
    if (json)
        std::cout << bench::json_of(*result) << std::endl;
    else
        tools::people() << bench::text_of(*result) << std::flush;
    return exit_success;
}

} // namespace

void add_bench_plan(CLI::App& app, int& status) {
    struct asked {
        std::uint32_t rounds = 21;
        bool json = false;
    };
    auto asks = std::make_shared<asked>();
    auto* command = app.get_subcommand("bench")->add_subcommand("plan", "Measure planning alone");
    command->add_option("--repeat", asks->rounds, "Rounds")
        ->check(CLI::Range(1, 10000).description(""))
        ->capture_default_str();
    command->add_flag("--json", asks->json, "One JSON object");
    command->callback([asks, &status] { status = run_planning(asks->rounds, asks->json); });
}

} // namespace kvferry
