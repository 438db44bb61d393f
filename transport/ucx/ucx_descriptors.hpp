// SPDX-License-Identifier: Apache-2.0
// The descriptors that UCX opens: UCX 1.13 makes them without close-on-exec, so that children of
// the host would keep the connections of a dead rank open.
#pragma once

#include <set>

namespace kvferry {

/// Descriptors behind the event descriptor of a UCX worker: what it polls, connections among them.
/// Found through /proc; the event descriptor alone where there is none.
std::set<int> polled_descriptors(int event_fd);

/// The same, and what UCX's own thread polls for the worker, its listening sockets among them.
/// Looks at all descriptors of the process.
std::set<int> ucx_descriptors(int event_fd);

/// Makes all of them close-on-exec.
void close_on_exec(const std::set<int>&);

/// In a forked child: lets go of those that are sockets.
void blank_sockets(const std::set<int>&);

} // namespace kvferry
