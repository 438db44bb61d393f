// SPDX-License-Identifier: Apache-2.0
// `kvferry top` and `kvferry why`: all ranks of a deployment, over the network.
#include "actors/discovery/etcd_directory.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "tools/common/directory_flags.hpp"
#include "tools/common/people.hpp"
#include "tools/common/security_flags.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/common/time_flag.hpp"
#include "tools/trace/deployment/deployment_top.hpp"
#include "tools/trace/deployment/deployment_why.hpp"
#include "tools/trace/deployment/lookout.hpp"
#include "tools/trace/live/why.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

using namespace tracing;

constexpr std::string_view by_name = "etcd:";

struct deployment_options {
    directory_options directory;
    security_options security;
    std::vector<std::string> instances;
    double deadline = 2;
    double every = 1;
    bool once = false;
    bool json = false;
    std::size_t rows = 10;
    std::uint64_t rid = 0;
};

/// The instances that the user means: those given, else all that are listed.
class instance_list {
public:
    static caf::expected<instance_list> make(const deployment_options& options) {
        instance_list result;
        auto from = from_environment(options.directory);
        const auto names = std::any_of(options.instances.begin(), options.instances.end(),
                                       [](const auto& x) { return x.starts_with(by_name); });
        for (const auto& each : options.instances) {
            if (each.starts_with(by_name)) {
                result.named_.push_back(each.substr(by_name.size()));
                continue;
            }
            if (const auto endpoint = parse_info_endpoint(each); !endpoint)
                return endpoint.error();
            result.given_.push_back({each});
        }
        if (!names && !result.given_.empty())
            return result;
        if (from.endpoints.empty())
            return make_error(errc::invalid_argument,
                              "say where the instances are: --etcd URL, or the endpoints of their "
                              "rank-info servers (kvferry instances lists them)");
        auto directory = etcd_directory::make(from);
        if (!directory)
            return std::move(directory.error());
        result.directory_ = std::make_shared<etcd_directory>(std::move(*directory));
        return result;
    }

    caf::expected<std::vector<instance_address>> now() const {
        auto result = given_;
        if (!directory_)
            return result;
        auto all = directory_->all();
        if (!all)
            return std::move(all.error());
        for (const auto& each : all->listings)
            if (named_.empty()
                || std::find(named_.begin(), named_.end(), each.name) != named_.end())
                result.push_back({each.endpoint, each});
        for (const auto& name : named_)
            if (std::none_of(result.begin(), result.end(),
                             [&](const auto& x) { return x.listed && x.listed->name == name; }))
                return make_error(errc::invalid_argument, "etcd lists no instance '{}'", name);
        return result;
    }

private:
    std::vector<instance_address> given_;
    std::vector<std::string> named_;
    std::shared_ptr<etcd_directory> directory_;
};

int failed(const deployment_options& options, const caf::error& why) {
    if (options.json)
        std::cout << nlohmann::json{{"error",
                                     {{"code", to_string(code_of(why))},
                                      {"message", text_of(why)}}}}
                         .dump()
                  << std::endl;
    else
        tools::people_errors() << "kvferry: " << describe(why) << std::endl;
    return code_of(why) == errc::invalid_argument ? exit_usage : exit_failure;
}

std::chrono::milliseconds milliseconds(double seconds) {
    return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>{seconds});
}

caf::expected<lookout> make_lookout(const deployment_options& options) {
    auto how = security::make(options.security);
    if (!how)
        return std::move(how.error());
    return lookout{{.how = std::move(*how), .deadline = milliseconds(options.deadline)}};
}

void show(const deployment_options& options, const std::vector<instance_view>& all,
          const std::map<std::string, rank_rates>& rates, const std::string& trouble) {
    if (options.json) {
        auto told = json_of(all, rates);
        if (!trouble.empty())
            told["problem"] = trouble;
        std::cout << told.dump() << std::endl;
        return;
    }
    const auto clears = !options.once && ::isatty(STDOUT_FILENO) != 0;
    if (clears)
        tools::people() << "\x1b[H\x1b[J"; // home, and nothing below it
    if (!trouble.empty())
        tools::people() << trouble << "\n\n";
    tools::people() << (all.empty() ? "no instance is listed\n" : text_of(all, rates, options.rows))
                    << (options.once || clears ? "" : "\n") << std::flush;
}

int top(const deployment_options& options) {
    auto list = instance_list::make(options);
    if (!list)
        return failed(options, list.error());
    auto asks = make_lookout(options);
    if (!asks)
        return failed(options, asks.error());
    query_rank question;
    question.sessions_max = static_cast<std::uint32_t>(options.rows);
    std::vector<instance_address> instances;
    std::optional<std::vector<instance_view>> before;
    for (;;) {
        const auto began = std::chrono::steady_clock::now();
        std::string trouble;
        if (auto found = list->now())
            instances = std::move(*found);
        else if (!before)
            return failed(options, found.error());
        else
            trouble = "the list of instances is old: " + describe(found.error());
        auto seen = asks->look(instances, question);
        // The first look has no rates yet.
        const auto shows = before || !options.once || asked_of(seen).told == 0;
        if (shows)
            show(options, seen,
                 before ? rates_between(*before, seen) : std::map<std::string, rank_rates>{},
                 trouble);
        if (!std::cout)
            return exit_failure;
        if (options.once && shows)
            return asked_of(seen).told > 0 || instances.empty() ? exit_success : exit_failure;
        before = std::move(seen);
        std::this_thread::sleep_until(began + milliseconds(options.every));
    }
}

int why(const deployment_options& options) {
    auto list = instance_list::make(options);
    if (!list)
        return failed(options, list.error());
    auto asks = make_lookout(options);
    if (!asks)
        return failed(options, asks.error());
    const auto instances = list->now();
    if (!instances)
        return failed(options, instances.error());
    query_rank question;
    question.request = rid{options.rid};
    const auto seen = asks->look(*instances, question);
    const auto waits = waits_of(seen, rid{options.rid});
    const auto [told, all] = asked_of(seen);
    const auto status = told > 0 ? exit_success : exit_failure;
    if (options.json) {
        auto silent = nlohmann::json::array();
        for (const auto& instance : seen)
            for (const auto& rank : instance.ranks)
                if (!rank.said)
                    silent.push_back({{"rank", rank.name}, {"problem", rank.problem}});
        std::cout << nlohmann::json{{"waits", json_of(waits)},
                                    {"ranks", all},
                                    {"ranks_that_tell", told},
                                    {"silent", std::move(silent)}}
                         .dump()
                  << std::endl;
        return status;
    }
    for (const auto& x : waits)
        tools::people() << x.text << "\n";
    if (waits.empty() && told > 0)
        tools::people()
            << "rid " << options.rid << ": none of the " << told
            << " ranks that tell has a session of it; it is not here, or it is over and "
               "its pages are released\n";
    tools::people() << std::flush;
    for (const auto& instance : seen) {
        for (const auto& rank : instance.ranks)
            if (!rank.said)
                tools::people_errors() << "kvferry: " << rank.name << ": " << rank.problem << "\n";
        if (instance.ranks_unknown > 0)
            tools::people_errors() << "kvferry: " << instance.name << ": " << instance.ranks_unknown
                                   << " other ranks: rank 0 has not said where they are\n";
    }
    tools::people_errors() << std::flush;
    return status;
}

void add_common(CLI::App& command, const std::shared_ptr<deployment_options>& options) {
    tools::add_directory_flags(command, options->directory, "the instances listed there are asked");
    tools::add_security_flags(command, options->security);
    command.add_flag("--insecure", options->security.insecure,
                     "For a deployment whose ranks run with --insecure");
    tools::add_time_flag(command, "--deadline", options->deadline, 0.01, 600, "2s",
                         "For the answer of one rank: 500ms, 2s");
    command
        .add_option("instances", options->instances,
                    "Only these: endpoints of rank-info servers (or of one rank's door), or "
                    "names in etcd")
        ->type_name("HOST:PORT|etcd:NAME");
}

} // namespace

void add_top(CLI::App& app, int& status) {
    auto options = std::make_shared<deployment_options>();
    auto* command = app.add_subcommand(
        "top",
        "All ranks of a deployment, over the network: sessions, GB/s, failures, who is silent");
    add_common(*command, options);
    tools::add_time_flag(*command, "--every", options->every, 0.01, 86400, "1s",
                         "How often: 500ms, 1s");
    command->add_flag("--once", options->once,
                      "Show it once, with the rates over one --every, and end");
    command
        ->add_option("--rows", options->rows,
                     "Sessions shown; 0: none, and no rank's loop is asked")
        ->check(CLI::Range(0, 256))
        ->type_name("N")
        ->default_str("10");
    command->add_flag("--json", options->json, "One object per round on a line");
    command->footer(
        "kvferry top --etcd http://10.0.0.1:2379      all instances that are listed there\n"
        "kvferry top 10.0.0.7:4711 10.0.0.9:4711      two instances, by their rank-info servers\n"
        "\n"
        "  in, out    bytes of the cache that have arrived, and that have been sent, per second\n"
        "  done       sessions that have succeeded since the rank was started\n"
        "  sessions   those that are not forgotten, by state\n"
        "  failed     sessions that have failed since then, by reason (messages/errors.hpp)\n"
        "\n"
        "A rank that does not answer within --deadline costs its own line, which says why. Ranks "
        "are\n"
        "asked with the deployment's secret, as they ask each other; without one only those of "
        "the\n"
        "same user on this machine answer. Next: kvferry why RID.\n"
        "Exit status: 1 when etcd does not answer, and with --once when no rank does.");
    command->callback([options, &status] { status = top(*options); });
}

void add_why(CLI::App& app, int& status) {
    auto options = std::make_shared<deployment_options>();
    auto* command = app.add_subcommand(
        "why", "What a request waits for anywhere in a deployment, and who must act");
    command->add_option("rid", options->rid, "The request")->required()->type_name("R");
    add_common(*command, options);
    command->add_flag("--json", options->json, "One object");
    command->footer(
        "kvferry why 7 --etcd http://10.0.0.1:2379\n"
        "\n"
        "Asks all ranks of all instances at once what they know of the request. The nearest cause\n"
        "comes first: it must be resolved before what waits for it. Ranks that have not answered "
        "are\n"
        "named on standard error. On one machine kvferry trace why also looks at messages that are "
        "on\n"
        "their way.\n"
        "Exit status: 1 when no rank answers.");
    command->callback([options, &status] { status = why(*options); });
}

} // namespace kvferry
