// SPDX-License-Identifier: Apache-2.0
// The command line of `kvferry worker` and its loop over standard input.
#include "actors/observe/trace_recording.hpp"
#include "messages/trace/log.hpp"
#include "tools/common/directory_flags.hpp"
#include "tools/common/people.hpp"
#include "tools/common/process_tracing.hpp"
#include "tools/common/security_flags.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/worker/command_lines.hpp"
#include "tools/worker/rank_host.hpp"
#include "transport/loop/threads.hpp"

#include <CLI/CLI.hpp>
#include <caf/scoped_actor.hpp>

#include <csignal>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <unistd.h>
#include <utility>

namespace kvferry::tools {

namespace {

constexpr const char* protocol_text = R"(
  --config FILE takes the flags above from a file: lines `flag = value` below [worker].

Standard output has one JSON object per line, named by its "event"; standard input takes one per
line, named by "do". A command is answered by one line, in order; outcomes and releases come in
between, when they happen, and "piece_failed" for a slice or aux record that was refused while its
session goes on. A rid with a live session is not opened again. End of input means stop. SIGTERM means
drain: no new sessions, the running ones end, then stop; commands are taken meanwhile. Exit status: 0
after a clean stop, 143 after SIGTERM, 1 when the rank could not start or its pages could not be
proven quiet at the end, 2 for a wrong flag.

  {"do":"send","rid":7,"slots":[0,1,2],"prompt_tokens":40}            context side
      "aux":{"first_tokens":[5]}     aux is required and sent as well
      "tokens":[0,16],"last":false   a piece of the prompt; send again for the rest
      "first_block":2                slots[0] holds this block of the request
  {"do":"open","rid":7,"aux":false}  only opens the session that `send` would open
  {"do":"receive","rid":7,"context":"127.0.0.1:4711","slots":[8,9,10],"prompt_tokens":40}
      "aux":true                     the outcome waits for the aux record too
      "dp_rank":1                    context DP group that runs the request
      "allow_missing":["layers","roles"]   what the context may lack; the outcome lists it
  {"do":"cancel","rid":7}            {"do":"status","rid":7}   "side":"context" when it has both
  {"do":"fill","slots":[0,1,2],"prompt_tokens":40,"seed":9}
      content of a request's blocks: every row of bytes follows from seed, layer, key or value,
      head and token of the whole cache, so that ranks split in any way hold parts of the same
  {"do":"check","slots":[8,9,10],"prompt_tokens":40,"seed":9}         compares with that content
  {"do":"digest","slots":[8,9,10]}   of all bytes of these slots
  {"do":"await","slot":9,"block":1,"seed":9,"deadline_ms":5000}       until the block's first token is there
  {"do":"connect","context":"127.0.0.1:4711"}   links before the first request; waits until they are ready
  {"do":"republish"}                 withdraws the pools once no session is left, and publishes them again
  {"do":"role","role":"generation"}  what the instance is listed for from now on
  {"do":"statistics"}   {"do":"stop"}
      open, send and receive take "priority": "high", "normal" or "low"; a sender without one goes
      by what its receivers ask
      open, send and receive take "deadline_ms" (default: --session-deadline): to the first piece,
      and as long again from there to the outcome; and "traceparent", W3C's, of the span above

Example, context rank:
  < {"event":"ready","info_endpoint":"127.0.0.1:4711","instance":"context","pid":61,"rank":0,...}
  > {"do":"fill","slots":[0,1,2],"prompt_tokens":40,"seed":9}
  < {"bytes":20480,"event":"filled"}
  > {"do":"send","rid":7,"slots":[0,1,2],"prompt_tokens":40}
  < {"event":"sending","rid":7}
  < {"bytes":24576,"error":null,"event":"outcome","rid":7,"route":"mapped","side":"context",
     "state":"KV_TRANSFERRED",...}
  < {"event":"released","rid":7,"side":"context"}
and its generation rank:
  > {"do":"receive","rid":7,"context":"127.0.0.1:4711","slots":[8,9,10],"prompt_tokens":40}
  < {"event":"receiving","rid":7}
  < {"event":"outcome","rid":7,"side":"generation","state":"KV_TRANSFERRED",...}
  < {"event":"released","rid":7,"side":"generation"}
  > {"do":"check","slots":[8,9,10],"prompt_tokens":40,"seed":9}
  < {"event":"checked","ok":true,...})";

/// What a shell reports of a process that SIGTERM has ended.
constexpr int exit_terminated = 128 + SIGTERM;

/// Runs commands until they end, or until the drain that SIGTERM begins is over; true after that.
bool serve(rank_host& host, command_lines& commands, const rank_options& options) {
    bool draining = false;
    std::string line;
    for (;;) {
        switch (commands.next(line)) {
        case command_lines::what::line:
            if (!host.run(line) && !draining)
                return false;
            break;
        case command_lines::what::end_of_input:
            if (!draining && !options.stay)
                return false;
            break;
        case command_lines::what::terminate:
            if (!std::exchange(draining, true)) {
                flight_recorder::failed("SIGTERM");
                host.drain(options.drain_deadline, [&commands] { commands.is_over(); });
            }
            break;
        case command_lines::what::drained:
            return true;
        }
    }
}

caf::expected<line_writer_actor> start_line_writer(runtime& actors) try {
    auto& system = actors.system();
    if (auto problem = check_threads("the writer of lines", 1))
        return problem;
    return system.spawn<line_writer_actor::stateful_impl<line_writer_state>, caf::detached>();
} catch (const std::runtime_error& why) {
    return make_error(errc::system_call_failed, why.what());
}

/// The line of an error from before there is an actor that writes lines.
int refuse_to_start(const caf::error& why) {
    std::cout << line_of(error_event("start", why)) << std::endl;
    return exit_failure;
}

int run_worker(const rank_options& options) {
    std::signal(SIGPIPE, SIG_IGN); // a closed reader then counts as the end of input
    if (::getpid() == 1)
        std::signal(SIGCHLD, SIG_IGN); // orphans of the container leave no zombies here
    command_lines commands;
    const auto flight =
        start_flight_recorder(options.instance, flight_recorder::sigterm::is_handled);
    std::unique_ptr<trace_recording> recording;
    if (!options.trace.empty()) {
        auto started = trace_recording::start(options.trace, options.instance);
        if (!started) {
            people_errors() << "kvferry worker: --trace: " << text_of(started.error()) << "\n";
            return exit_usage;
        }
        recording = std::move(*started);
    }
    runtime actors;
    auto made = start_line_writer(actors);
    if (!made)
        return refuse_to_start(made.error());
    auto out = std::move(*made);
    auto flush = [&] {
        caf::scoped_actor self{actors.system()};
        self->request(out, std::chrono::seconds{5}, stop_io{}).receive([] {}, [](caf::error&) {});
    };
    caf::expected<std::unique_ptr<rank_host>> host{caf::error{}};
    const auto ended =
        commands.ends_before_terminate([&] { host = rank_host::start(actors, options, out); });
    if (!ended)
        return refuse_to_start(ended.error());
    if (!*ended) { // nothing is lent yet, so nobody needs to be told
        logger().flush();
        std::_Exit(exit_terminated);
    }
    if (!host) {
        tell_from_outside(out, line_of(error_event("start", host.error())));
        flush();
        return code_of(host.error()) == errc::invalid_argument ? exit_usage : exit_failure;
    }
    const auto terminated = serve(**host, commands, options);
    const auto clean = (*host)->stop();
    flush();
    if (!clean) {
        recording.reset();
        logger().flush();
        // Threads still own mappings: only the end of the process proves that they are quiet.
        std::_Exit(terminated ? exit_terminated : exit_failure);
    }
    return terminated ? exit_terminated : exit_success;
}

} // namespace

} // namespace kvferry::tools

namespace kvferry {

void add_worker(CLI::App& app, int& status) {
    auto* command = app.add_subcommand("worker", "Run one rank, driven by JSON lines");
    auto options = std::make_shared<tools::rank_options>();
    const auto milliseconds = [command](const char* flag, std::chrono::milliseconds& to,
                                        const char* text) {
        command
            ->add_option_function<std::int64_t>(
                flag, [&to](std::int64_t value) { to = std::chrono::milliseconds{value}; }, text)
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{86'400'000}))
            ->type_name("MS")
            ->default_str(std::to_string(to.count()));
    };
    command->add_option("--instance", options->instance, "Name of the instance")
        ->capture_default_str();
    command->add_option("--layout", options->layout,
                        "Place of the rank: tp=2,tp_rank=0,pp=1,pp_rank=0,attention_dp=0");
    command
        ->add_option("--model", options->model,
                     "Shape of the whole cache; also kind=gqa|mla, order=hnd|nhd")
        ->capture_default_str();
    command->add_option("--slots", options->slots, "Blocks that the pool holds")
        ->capture_default_str();
    command
        ->add_option("--memory", options->memory,
                     "shared: peers on this machine may map the pool; private: they cannot; cuda: "
                     "it lies on a device; twin: host memory stands in for a device, without a GPU")
        ->check(CLI::IsMember({"shared", "private", "cuda", "twin"}))
        ->capture_default_str();
    command->add_option("--device", options->device, "Device, for --memory cuda")
        ->capture_default_str();
    command->add_option("--device-chunk-bytes", options->device_chunk_bytes,
                        "Makes the pool on the device of chunks, as expandable allocators do");
    command
        ->add_option("--multiprocessors", options->multiprocessors,
                     "Multiprocessors of a device for its copies")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command
        ->add_option("--copy-threads", options->copy_threads,
                     "Threads that copy between host memory, and as many that move bytes over TCP, "
                     "unless it is 1; 0: one for every four processors, at most 8")
        ->check(CLI::Range(0, 256))
        ->capture_default_str();
    command->add_option("--info-endpoint", options->info_endpoint,
                        "host:port of rank 0; rank 0 itself leaves it out");
    command->add_option("--port", options->port, "Rank 0: port of its info endpoint; 0 picks one")
        ->capture_default_str();
    command->add_option("--bind", options->bind,
                        "Address whose network device this rank uses; rank 0 listens there for "
                        "questions (without it: 127.0.0.1)");
    command->add_option(
        "--advertise", options->advertise,
        "Name or address, with or without :port, under which others reach this rank "
        "when that is not --bind");
    tools::add_security_flags(*command, options->security);
    command->add_flag("--insecure", options->security.insecure,
                      "Without a secret or certificates: serve whoever reaches this rank");
    command->add_flag("--plain-bulk", options->security.plain_bulk,
                      "With a secret or certificates: do not encrypt bytes of pages over TCP (on "
                      "both sides)");
    command->add_option("--route", options->route, "Route for the bytes that this rank sends")
        ->check(CLI::IsMember({"auto", "mapped", "direct", "staged"}))
        ->capture_default_str();
    command
        ->add_option("--wire", options->wire,
                     "What carries messages, and bytes that no mapping carries")
        ->check(CLI::IsMember({"auto", "ucx", "tcp"}))
        ->capture_default_str();
    command->add_flag("!--no-same-host-link", options->same_host_link,
                      "Treat peers of this machine like peers of another one");
    command
        ->add_option(
            "--machine", options->machine,
            "Name of this machine; ranks with another are far away (without it: its boot id)")
        ->type_name("TEXT");
    command->add_flag("--relay,!--no-relay", options->relay,
                      "Share one copy of what ranks of this machine need alike from another one");
    command->add_flag(
        "--send-staged", options->send_staged,
        "Send staged bytes to peers of this machine too, whose devices could read them");
    command
        ->add_option("--host-link-folder", options->host_link_folder,
                     "Offer the same-host socket also as a file in this folder")
        ->type_name("FOLDER");
    command
        ->add_option("--fingerprint", options->fingerprint,
                     "What bytes cannot show of the model; peers with another are refused")
        ->type_name("TEXT");
    command
        ->add_option("--protocol", options->protocol,
                     "Newest protocol version that the rank speaks (without it: KVFERRY_PROTOCOL)")
        ->check(CLI::Range(oldest_protocol_version, protocol_version))
        ->capture_default_str();
    milliseconds("--session-deadline", options->session_deadline,
                 "Longest time from open to outcome");
    milliseconds("--dial-deadline", options->dial_deadline,
                 "Longest wait for one link, or for one answer of an info endpoint");
    milliseconds("--link-health-interval", options->link_health_interval,
                 "How often a quiet peer is asked while somebody waits for it");
    milliseconds("--link-patience", options->link_patience,
                 "Longest silence of a peer that was asked");
    milliseconds("--stop-deadline", options->stop_deadline, "Longest time for the stop at the end");
    milliseconds("--drain-deadline", options->drain_deadline,
                 "Longest time from SIGTERM to the end, stop included");
    command->add_option("--fill-seed", options->fill_seed,
                        "Start with this content: slot i holds block i");
    command
        ->add_option("--metrics", options->metrics,
                     "Serve /metrics, /livez and /readyz over HTTP here; port 0 picks one, which "
                     "`ready` tells")
        ->type_name("HOST:PORT");
    command
        ->add_option("--spans", options->spans,
                     "Send a span for every session that ends to this collector of OpenTelemetry "
                     "(without it: KVFERRY_SPANS)")
        ->type_name("URL");
    tools::add_directory_flags(*command, options->directory,
                               "rank 0 lists its instance there, and \"context\" may be etcd:NAME");
    command
        ->add_option_function<unsigned>(
            "--etcd-lease",
            [options](unsigned seconds) {
                options->directory.lease = std::chrono::seconds{seconds};
            },
            "An instance whose rank 0 is silent for so long is no longer listed")
        ->type_name("SECONDS")
        ->check(CLI::Range(1, 3600))
        ->default_str(std::to_string(options->directory.lease.count()));
    command->add_option("--role", options->role, "What the instance is listed for")
        ->check(CLI::IsMember({"any", "context", "generation"}))
        ->capture_default_str();
    command
        ->add_option("--trace", options->trace,
                     "Record all messages into this folder, for `kvferry trace`")
        ->type_name("RUN");
    command->add_flag("--stay", options->stay,
                      "Go on after the end of standard input, until SIGTERM: for services");
    command->fallthrough(); // to --config
    command->footer(tools::protocol_text);
    command->callback([options, &status] { status = tools::run_worker(*options); });
}

} // namespace kvferry
