// SPDX-License-Identifier: Apache-2.0
// How a command shows that it belongs to a deployment, as flags.
#pragma once

#include "transport/secure/security_options.hpp"

namespace CLI {
class App;
}

namespace kvferry::tools {

/// Adds --secret-file, --cert-file, --key-file, --ca-file and --peer-names. `into` must live as
/// long as the command.
void add_security_flags(CLI::App& command, security_options& into);

} // namespace kvferry::tools
