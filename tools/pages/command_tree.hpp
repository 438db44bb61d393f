// SPDX-License-Identifier: Apache-2.0
// The command line as a plain value, for pages that are made of it.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace kvferry::tools {

struct described_option {
    /// With their dashes; a positional's name has none.
    std::vector<std::string> names;
    /// "MS", "HOST:PORT"; empty for a flag.
    std::string value;
    std::string description;
};

struct described_command {
    /// "kvferry", "kvferry trace", "kvferry trace why".
    std::string name;
    std::string description;
    std::string footer;
    std::vector<described_option> options;
    std::vector<described_command> subcommands;
};

/// Without what is hidden.
described_command describe(const CLI::App&);

/// A page for man, section 1.
std::string man_page(const described_command&, const std::string& version);

/// Scripts that complete subcommands and flags.
std::string bash_completion(const described_command&);
std::string zsh_completion(const described_command&);
std::string fish_completion(const described_command&);

} // namespace kvferry::tools
