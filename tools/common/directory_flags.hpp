// SPDX-License-Identifier: Apache-2.0
// Where etcd is, and who asks it, as flags of a subcommand.
#pragma once

#include "actors/discovery/directory_options.hpp"

#include <string>

namespace CLI {
class App;
}

namespace kvferry::tools {

/// Adds --etcd, which does `what`, and the flags that go with it. `into` must live as long as the
/// command.
void add_directory_flags(CLI::App& command, directory_options& into, const std::string& what);

} // namespace kvferry::tools
