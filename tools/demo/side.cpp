// SPDX-License-Identifier: Apache-2.0
// `kvferry demo-side`: one side's process, from its first line to its last.
#include "actors/observe/trace_recording.hpp"
#include "tools/common/process_tracing.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/demo/context_side.hpp"
#include "tools/demo/copy_comparison.hpp"
#include "tools/demo/generation_side.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace kvferry {
namespace {

using namespace demo;

/// How long one rank may take to stop.
constexpr std::chrono::seconds stop_deadline{5};

void run_side(side_loop& loop) {
    std::unique_ptr<trace_recording>
        recording; // destroyed last, so that it records the stop as well
    std::unique_ptr<side_ranks> ranks;
    std::unique_ptr<context_side> context;
    std::unique_ptr<generation_side> generation;
    std::unique_ptr<trace_endpoint> live;
    loop.handlers().on<start_side>([&](const start_side& setup) {
        if (!setup.trace.empty()) {
            auto started = trace_recording::start(setup.trace, setup.instance);
            if (!started)
                throw std::runtime_error(text_of(started.error()));
            recording = std::move(*started);
        }
        ranks = std::make_unique<side_ranks>(setup);
        std::vector<const worker*> watched;
        for (std::size_t rank = 0; rank < ranks->size(); ++rank)
            watched.push_back(&ranks->rank(rank));
        live = tools::start_trace_endpoint(setup.instance, watched);
        if (setup.instance == "context")
            context = std::make_unique<context_side>(loop, *ranks, setup);
        else
            generation = std::make_unique<generation_side>(loop, *ranks, setup);
        loop.tell(ranks->describe());
    });
    loop.handlers().on<compare_copy>([&](const compare_copy& message) {
        loop.tell(copy_compared{message.bytes, message.pieces,
                                seconds_of_copy(message.bytes, message.pieces)});
    });
    loop.handlers().on<stop_side>([&](const stop_side&) { loop.stop(); });
    loop.run();
    live.reset();
    side_stopped last;
    if (ranks)
        last.unproven = ranks->stop(stop_deadline);
    if (!last.unproven.empty()) // somebody may still write: the end of the process frees it
        static_cast<void>(ranks.release());
    loop.tell(last);
}

int side_main(const std::string& name) {
    const auto flight = tools::start_flight_recorder("demo-" + name);
    side_loop loop;
    try {
        run_side(loop);
        loop.drain();
        return exit_success;
    } catch (const std::exception& error) {
        tools::flight_recorder::failed(error.what());
        loop.tell(side_failed{error.what()});
        loop.drain();
        return exit_failure;
    }
}

} // namespace

void add_demo_side(CLI::App& app, int& status) {
    auto* command = app.add_subcommand("demo-side", "One side of `kvferry demo`, which starts it")
                        ->group(""); // not for people
    auto name = std::make_shared<std::string>();
    command->add_option("side", *name, "for ps: context or generation")->required();
    command->callback([name, &status] { status = side_main(*name); });
}

} // namespace kvferry
