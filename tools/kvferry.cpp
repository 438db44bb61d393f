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
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

namespace tools = kvferry::tools;

int main(int argc, char** argv) {
    kvferry::init_types(); // errors are made before there is an actor system
    CLI::App app{
        "kvferry moves the KV cache of requests from the processes that computed it to the "
        "processes that go on with it.",
        "kvferry"};
    app.set_version_flag("--version", "kvferry " + std::string{kvferry::version()});
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
