// SPDX-License-Identifier: Apache-2.0
// `kvferry demo`: its options, its run, its report.
#include "messages/trace/log.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/demo/orchestrator.hpp"
#include "tools/demo/report.hpp"

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

namespace kvferry {
namespace {

using namespace demo;

constexpr const char* about =
    R"(A context side computes the KV cache of each prompt with a small model on the CPU.
kvferry moves the cache to a generation side, another process, cut differently between
its ranks. That side generates the rest. The demo passes when the generated tokens and a
digest of the whole cache equal those of a run in one process.

Examples:
  kvferry demo                                      three requests, tp=2 to pp=2
  kvferry demo "Once upon a time"                   your own prompt; every byte is a token
  kvferry demo --context tp=4 --generation tp=2     heads move between ranks
  kvferry demo --context pp=2 --generation tp=2     layers and heads move between ranks
  kvferry demo --context tp=8 --generation tp=1     more ranks than KV heads: one copy is sent
  kvferry demo --kind mla --generation tp=2,adp=1   a latent cache, attention data parallelism
  kvferry demo --window 100 --generation-tokens-per-block 32   a sliding window, other block sizes
  kvferry demo --route direct                       over UCX instead of shared mappings
  kvferry demo --memory cuda                        pools on the GPUs
  kvferry demo --requests 8 --in-flight 4           several transfers at a time
  kvferry demo --order generation-first             receive() waits; the first token is aux
  kvferry demo --model medium --prompt-tokens 500   a cache of 24 MiB; takes a while
  kvferry demo --flip-a-bit                         must fail: proves that the check works
  kvferry demo --json | python3 -m json.tool        for machines

Exit status: 0 passed, 1 failed, 2 wrong usage.
)";

std::size_t terminal_columns() {
    winsize size{};
    const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return known ? size.ws_col : 100;
}

int run_demo(const demo_options& options) {
    progress_line progress{!options.json};
    const auto result = orchestrator{options, progress}.run();
    if (options.json) {
        std::cout << json_report(result) << std::endl;
    } else {
        const bool colours = ::isatty(STDOUT_FILENO) == 1 && !std::getenv("NO_COLOR");
        tools::people() << text_report(result, {colours, terminal_columns()}) << std::flush;
    }
    return result.passed() ? exit_success : exit_failure;
}

/// Turns std::invalid_argument from the demo's parts into a usage error.
template <class F>
auto usage(F&& f) {
    try {
        return f();
    } catch (const std::invalid_argument& error) {
        throw CLI::ValidationError("demo", error.what());
    }
}

/// "tp=2,pp=1" on the command line.
void add_ranks(CLI::App& command, const char* name, engine::parallelism& ranks, const char* what) {
    command
        .add_option_function<std::string>(
            name,
            [&ranks](const std::string& text) { ranks = usage([&] { return parse_ranks(text); }); },
            std::string(what) + ", such as tp=4 or tp=2,pp=2 [" + to_string(ranks) + "]")
        ->type_name("RANKS");
}

void set_log_level(const std::string& level) {
    ::setenv("KVFERRY_LOG", level.c_str(), 1); // for the sides
    (void)kvferry::set_log_level(level);       // the option accepts known levels only
}

/// A number with its default in the help, and its bounds in the error.
template <class Number>
void add_number(CLI::App& command, const char* name, Number& value, int least, int most,
                const char* what) {
    command.add_option(name, value, what)
        ->check(CLI::Range(least, most).description(""))
        ->type_name("N")
        ->capture_default_str();
}

/// An option with a few allowed words; calls `set` with the chosen one.
void add_choice(CLI::App& command, const char* name, const std::vector<std::string>& words,
                const std::string& preset, const std::function<void(const std::string&)>& set,
                const std::string& what) {
    std::string all;
    for (const auto& word : words)
        all += (all.empty() ? "" : "|") + word;
    command.add_option_function<std::string>(name, set, what + " [" + preset + "]")
        ->check(CLI::IsMember(words).description(""))
        ->type_name(all);
}

void add_what_moves(CLI::App& command, demo_options& options) {
    const auto names = engine::preset_names();
    command.add_option("prompt", options.prompts, "Prompts, one request each")->type_name("TEXT");
    add_number(command, "--prompt-tokens", options.prompt_tokens, 1, 1 << 20,
               "Length of a prompt that the demo makes up");
    add_number(command, "--new-tokens", options.new_tokens, 0, 1 << 16,
               "Tokens to generate after the first");
    command.add_option("--requests", options.requests, "Number of requests [one per prompt, or 3]")
        ->check(CLI::Range(1, 4096).description(""))
        ->type_name("N");
    add_choice(
        command, "--model", {names.begin(), names.end()}, options.model,
        [&options](const std::string& name) { options.model = name; }, "Size of the model");
    add_number(command, "--tokens-per-block", options.tokens_per_block, 1, 4096,
               "Tokens of one block");
    add_number(command, "--generation-tokens-per-block", options.generation_tokens_per_block, 0,
               4096, "Tokens of one block on the generation side; 0: as on the context side");
    add_choice(
        command, "--kind", {"gqa", "mla"}, "gqa",
        [&options](const std::string& kind) { options.latent = kind == "mla"; },
        "K and V per head, or one latent per token");
    add_number(command, "--window", options.window, 0, 1 << 20,
               "Tokens that attention reaches; 0: all");
}

void add_how_it_moves(CLI::App& command, demo_options& options) {
    add_ranks(command, "--context", options.context, "Ranks of the context side");
    add_ranks(command, "--generation", options.generation, "Ranks of the generation side");
    add_choice(
        command, "--route", {"auto", "mapped", "direct", "staged"}, options.route,
        [&options](const std::string& name) { options.route = name; }, "How the bytes travel");
    add_choice(
        command, "--memory", {"host", "cuda"}, options.memory,
        [&options](const std::string& name) { options.memory = name; },
        "Where the pools lie; the model stays on the CPU");
    add_number(command, "--in-flight", options.in_flight, 1, 256, "Requests at a time");
    add_choice(
        command, "--order", {"context-first", "generation-first"}, "context-first",
        [&options](const std::string& name) {
            options.order =
                name == "context-first" ? side_order::context_first : side_order::generation_first;
        },
        "Which side hears of a request first");
}

void add_the_rest(CLI::App& command, demo_options& options) {
    command.add_flag("--flip-a-bit", options.flip_a_bit,
                     "Self-test: damage one bit of the first request after its transfer");
    command.add_option("--crash", options.crash, "Self-test: the side that dies half-way")
        ->check(CLI::IsMember({"context", "generation"}))
        ->group("");
    add_number(command, "--deadline", options.deadline_seconds, 1, 86400,
               "Longest wait for anything, in seconds");
    command
        .add_option("--trace", options.trace,
                    "Record all messages into this folder, for `kvferry trace`")
        ->type_name("RUN");
    command.add_flag("--json", options.json, "One JSON object instead of text");
    add_choice(command, "--log", {"trace", "debug", "info", "warn", "error", "off"}, "error",
               set_log_level, "Log on stderr, as KVFERRY_LOG does");
}

} // namespace

void add_demo(CLI::App& app, int& status) {
    auto options = std::make_shared<demo_options>();
    auto* command =
        app.add_subcommand("demo", "Shows a KV transfer between two processes, and proves it");
    command->footer(about);
    add_what_moves(*command, *options);
    add_how_it_moves(*command, *options);
    add_the_rest(*command, *options);
    command->callback([options, &status] {
        usage([&] { check(*options); });
        status = run_demo(*options);
    });
}

} // namespace kvferry
