// SPDX-License-Identifier: Apache-2.0
// `kvferry trace record` and `kvferry trace why`.
#pragma once

namespace CLI {
class App;
}

namespace kvferry {

/// Below `trace`; leaves its exit status in `status`.
void add_live_commands(CLI::App& trace, int& status);

} // namespace kvferry
