// SPDX-License-Identifier: Apache-2.0
// UCX takes over SIGHUP and the crash signals of its process when it is loaded.
#pragma once

namespace kvferry {

/// Gives signals that UCX handles back to whoever had them before, unless the environment sets how
/// UCX is to handle errors. Signals that the host has taken since stay the host's.
void give_signals_back();

} // namespace kvferry
