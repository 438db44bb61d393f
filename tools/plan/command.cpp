// SPDX-License-Identifier: Apache-2.0
// `kvferry plan`: who sends what to whom between two instances, without starting either.
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/plan/text.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>

namespace kvferry {

namespace {

constexpr const char* about =
    R"(Asks the planner that transfers use.

MODEL   layers=4,heads=4,head_dim=128,element_bytes=4,tokens_per_block=8,kind=gqa
        keys left out have these values; also kind=mla, layout=nhd, window=TOKENS,
        element_bytes=0.5. The cache format is the default one: one slot holds one block of the
        rank's layers, [layer][K,V][head][token][dim] for hnd, [token][head] for nhd, one buffer
        per layer for mla.
        config.json,tokens_per_block=16,layout=hnd,element_type=bf16
        or a model's published configuration (Hugging Face): which layers have K and V, latents,
        windows or states follows from it
RANKS   tp=1,pp=1,cp=1,adp=0,layers_per_stage=3:2,layers=5,first_layer=0
        tp, pp and cp are 1 when left out; adp=N is attention data
        parallelism over groups of N TP ranks; without layers_per_stage the first stages
        take the layers that are left over; layers and first_layer when this side has others than the model (a speculative layer more)
FILE    an instance as its engine has it: split and tensors, in JSON (tools/plan/README.md)
        {"tp":2,"tensors":[{"dims":"kv block token head dim","shape":[2,1000,16,4,128],
                            "dtype":"bf16","layers":"0-31","heads":8}]}

Examples:
  kvferry plan --context tp=4 --generation tp=2,pp=2
  kvferry plan --context tp=8 --generation tp=2 --explain         two ranks per head: who sends?
  kvferry plan --context pp=2 --generation tp=2 --prompt 100 --reused-prefix 32
  kvferry plan --model kind=mla --context tp=2 --generation tp=2,adp=1 --generation-dp 1 --json
  kvferry plan --model Qwen3-Next/config.json --context tp=4 --generation tp=2 --prompt 8192
  kvferry plan --page-table prefill.json --against decode.json

Exit status: 0, or 2 when the sides do not fit each other (with --json: reason on stdout).
)";

int answer(const tools::plan_flags& flags, bool as_json, bool with_reasons) {
    auto fail = [as_json](const caf::error& error) {
        if (as_json)
            std::cout << tools::json_of(error) << std::endl;
        else
            tools::people_errors() << "kvferry plan: " << describe(error) << std::endl;
        return exit_usage;
    };
    auto question = tools::parse_plan_flags(flags);
    if (!question)
        return fail(question.error());
    auto routes = tools::plan_routes(*question);
    if (!routes)
        return fail(routes.error());
    if (as_json)
        std::cout << tools::json_of(*question, *routes, with_reasons) << std::endl;
    else
        tools::people() << tools::report_of(*question, *routes, with_reasons) << std::flush;
    return exit_success;
}

} // namespace

void add_plan(CLI::App& app, int& status) {
    struct asked {
        tools::plan_flags flags;
        bool json = false;
        bool explain = false;
    };
    auto asks = std::make_shared<asked>();
    auto& flags = asks->flags;
    auto* command = app.add_subcommand("plan", "Shows who sends what to whom between two layouts");
    command->footer(about);
    auto add = [command](const char* name, std::string& to, const char* type, const char* what) {
        command->add_option(name, to, what)->type_name(type);
    };
    add("--model", flags.model, "MODEL", "Shape of the cache");
    add("--page-table", flags.page_table, "FILE", "The context side as its tensors");
    add("--against", flags.against, "FILE", "The generation side as its tensors");
    add("--context", flags.context, "RANKS", "Ranks of the context side");
    add("--generation", flags.generation, "RANKS", "Ranks of the generation side");
    add("--context-dp", flags.context_dp, "D", "DP rank that computed the request [0]");
    add("--generation-dp", flags.generation_dp, "D", "DP rank that continues the request [0]");
    add("--prompt", flags.prompt, "TOKENS", "Also show what a prompt of this length moves");
    add("--reused-prefix", flags.reused_prefix, "TOKENS",
        "Tokens that the generation side already has, in whole blocks");
    add("--allow-missing", flags.allow_missing, "PARTS",
        "What generation ranks may go without when the context lacks it: layers,roles");
    command->add_flag("--json", asks->json, "One JSON object instead of text");
    command->add_flag("--explain", asks->explain, "Why each pair of ranks is, or is not, a writer");
    command->callback([asks, &status] { status = answer(asks->flags, asks->json, asks->explain); });
}

} // namespace kvferry
