// SPDX-License-Identifier: Apache-2.0
// The program `kvferry`: finds the subcommand and turns usage errors into status 2. With --json it
// reports them as JSON.
#include "actors/host/configure.hpp"
#include "messages/version.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <unistd.h>

namespace tools = kvferry::tools;

namespace {

/// The kernel spares process 1 of a container what it does not handle: without this, whatever runs
/// there ends by SIGKILL only. A subcommand may handle a signal itself.
void end_by_signals_as_process_1() {
    if (::getpid() == 1)
        for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT})
            std::signal(number, [](int what) { ::_exit(128 + what); });
}

/// Below each subcommand, too; help and manual say it once.
void add_version(CLI::App& to, const std::string& text) {
    auto* flag = to.set_version_flag("--version", text);
    if (to.get_parent() != nullptr)
        flag->group("");
    for (auto* each : to.get_subcommands([](CLI::App*) { return true; }))
        add_version(*each, text);
}

} // namespace

int main(int argc, char** argv) {
    end_by_signals_as_process_1();
    kvferry::init_types(); // errors are made before there is an actor system
    CLI::App app{
        "kvferry moves the KV cache of requests from the processes that computed it to the "
        "processes that go on with it.",
        "kvferry"};
    app.require_subcommand(1);
    app.set_config("--config", "",
                   "Flags of `worker`, from a file: lines `flag = value` below [worker]")
        ->type_name("FILE");
    app.allow_config_extras(CLI::config_extras_mode::error);
    app.footer("Start with:  kvferry demo\nkvferry <subcommand> --help says more.");
    int status = kvferry::exit_success;
    kvferry::add_bench(app, status);
    kvferry::add_bench_plan(app, status);
    kvferry::add_bench_counters(app, status);
    kvferry::add_bench_request(app, status);
    kvferry::add_bench_incast(app, status);
    kvferry::add_bench_scale(app, status);
    kvferry::add_bench_soak(app, status);
    kvferry::add_bench_side(app, status);
    kvferry::add_bench_incast_side(app, status);
    kvferry::add_demo(app, status);
    kvferry::add_demo_side(app, status);
    kvferry::add_doctor(app, status);
    kvferry::add_instances(app, status);
    kvferry::add_plan(app, status);
    kvferry::add_top(app, status);
    kvferry::add_why(app, status);
    kvferry::add_trace(app, status);
    kvferry::add_worker(app, status);
    kvferry::add_pages(app, status);
    add_version(app, "kvferry " + std::string{kvferry::version()});
    try {
        app.parse(argc, argv);
        return status;
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
            const int code = app.exit(error, tools::people()); // --help, --version
            tools::people().flush();
            return code;
        }
        const std::string text = error.what();
        if (std::find(argv, argv + argc, std::string_view{"--json"}) != argv + argc)
            std::cout << nlohmann::json{{"error",
                                         {{"code", "invalid_argument"}, {"message", text}}}}
                             .dump()
                      << "\n";
        else
            tools::people_errors() << "kvferry: " << text << std::endl;
        return kvferry::exit_usage;
    } catch (const std::exception& error) {
        tools::people_errors() << "kvferry: " << error.what() << std::endl;
        return kvferry::exit_failure;
    }
}
