// SPDX-License-Identifier: Apache-2.0
// `kvferry doctor`: its options and its exit status.
#include "tools/common/people.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/doctor/report.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>

namespace kvferry {

void add_doctor(CLI::App& app, int& status) {
    auto json = std::make_shared<bool>(false);
    auto* command =
        app.add_subcommand("doctor", "Says what this machine can do, and what it lacks");
    command->add_flag("--json", *json, "One JSON object instead of text");
    command->footer(
        "Looks at the machine as this process sees it: run it as the user and in the\n"
        "container in which the ranks will run. UCX_* in the environment applies.\n\n"
        "Exit status: 0 when kvferry works here, 1 when something that it needs is missing.");
    command->callback([json, &status] {
        const auto found = doctor::judge(doctor::look());
        if (*json)
            std::cout << doctor::to_json(found) << std::endl;
        else
            tools::people() << doctor::to_text(found) << std::flush;
        status = found.usable() ? exit_success : exit_failure;
    });
}

} // namespace kvferry
