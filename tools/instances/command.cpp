// SPDX-License-Identifier: Apache-2.0
// `kvferry instances`: its options and its exit status.
#include "actors/discovery/etcd_directory.hpp"
#include "tools/common/directory_flags.hpp"
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/instances/table.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>

namespace kvferry {

namespace {

struct instances_options {
    directory_options directory;
    bool json = false;
    bool watch = false;
};

/// Shows what is listed, and with `watch` again after each change.
caf::error show(const instances_options& options) {
    auto directory = etcd_directory::make(options.directory);
    if (!directory)
        return std::move(directory.error());
    for (std::int64_t shown = -1;;) {
        auto now = directory->all();
        if (!now)
            return std::move(now.error());
        auto& out = options.json ? std::cout : tools::people();
        if (now->revision != shown)
            out << (options.json ? instances::to_json(now->listings)
                                 : instances::to_text(now->listings))
                << std::flush;
        shown = now->revision;
        if (!options.watch)
            return {};
        if (auto lost = directory->watch(shown, [] { return false; }))
            return lost;
        if (!options.json)
            out << "\n";
    }
}

} // namespace

void add_instances(CLI::App& app, int& status) {
    auto options = std::make_shared<instances_options>();
    auto* command =
        app.add_subcommand("instances", "Lists the instances of a deployment, from etcd");
    tools::add_directory_flags(*command, options->directory, "they are asked");
    command->add_flag("--json", options->json, "One JSON object on a line instead of text");
    command->add_flag("--watch", options->watch, "Show them again after each change");
    command->footer("Exit status: 1 when etcd does not answer, or refuses.");
    command->callback([options, &status] {
        options->directory = from_environment(std::move(options->directory));
        if (auto problem = show(*options)) {
            tools::people_errors() << "kvferry: " << describe(problem) << std::endl;
            status = code_of(problem) == errc::invalid_argument ? exit_usage : exit_failure;
        }
    });
}

} // namespace kvferry
