// SPDX-License-Identifier: Apache-2.0
// Reads CLI11's own description.
#include "tools/pages/command_tree.hpp"

#include <CLI/CLI.hpp>

namespace kvferry::tools {

namespace {

described_option describe(const CLI::Option& x) {
    described_option result;
    for (const auto& name : x.get_snames())
        result.names.push_back("-" + name);
    for (const auto& name : x.get_lnames())
        result.names.push_back("--" + name);
    if (result.names.empty())
        result.names.push_back(x.get_name());
    if (x.get_items_expected_max() != 0)
        result.value = x.get_type_name();
    result.description = x.get_description();
    return result;
}

described_command describe(const CLI::App& x, const std::string& before) {
    described_command result;
    result.name = before + x.get_name();
    result.description = x.get_description();
    result.footer = x.get_footer();
    for (const auto* option : x.get_options())
        if (!option->get_group().empty())
            result.options.push_back(describe(*option));
    for (const auto* each : x.get_subcommands([](const CLI::App*) { return true; }))
        if (!each->get_group().empty() && !each->get_name().empty())
            result.subcommands.push_back(describe(*each, result.name + " "));
    return result;
}

} // namespace

described_command describe(const CLI::App& x) {
    return describe(x, "");
}

} // namespace kvferry::tools
