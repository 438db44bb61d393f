// SPDX-License-Identifier: Apache-2.0
// The descriptors that UCX opens: UCX 1.13 makes them without close-on-exec, so that children of
// the host would keep the connections of a dead rank open.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <sys/types.h>

namespace kvferry {

/// The epoll sets of this process. Found through /proc, like all that follows.
std::set<int> epoll_sets();

/// What a UCX worker polls, connections among them: all that is behind its event descriptor and
/// the epoll sets that were `made` with it. A transport's set is behind the event descriptor only
/// once the transport is in use.
std::set<int> polled_descriptors(int event_fd, const std::set<int>& made);

/// The same, and what UCX's own thread polls for the worker, its listening sockets among them.
/// Looks at all descriptors of the process.
std::set<int> ucx_descriptors(int event_fd, const std::set<int>& made);

/// Those that listen, with the file behind each number, by which a closed one is told from what got
/// its number.
using listening_sockets = std::map<int, ino_t>;
listening_sockets listening_among(const std::set<int>&);

/// Takes out those that have been closed, and returns how many.
std::size_t forget_closed(listening_sockets&);

/// Makes all of them close-on-exec.
void close_on_exec(const std::set<int>&);

/// In a forked child: lets go of those that are sockets.
void blank_sockets(const std::set<int>&);

} // namespace kvferry
