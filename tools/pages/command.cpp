// SPDX-License-Identifier: Apache-2.0
// `kvferry pages`: the manual and what shells complete, made of the command line itself.
#include "messages/version.hpp"
#include "tools/common/subcommand.hpp"
#include "tools/pages/command_tree.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <memory>
#include <string>

namespace kvferry {

void add_pages(CLI::App& app, int& status) {
    auto* command = app.add_subcommand("pages", "Print the manual, or what a shell completes");
    command->group(""); // for packages
    auto what = std::make_shared<std::string>();
    command->add_option("what", *what, "man, bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"man", "bash", "zsh", "fish"}));
    command->callback([&app, what, &status] {
        const auto all = tools::describe(app);
        std::cout << (*what == "man"    ? tools::man_page(all, std::string{version()})
                      : *what == "bash" ? tools::bash_completion(all)
                      : *what == "zsh"  ? tools::zsh_completion(all)
                                        : tools::fish_completion(all))
                  << std::flush;
        status = std::cout ? exit_success : exit_failure;
    });
}

} // namespace kvferry
