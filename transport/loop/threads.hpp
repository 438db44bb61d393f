// SPDX-License-Identifier: Apache-2.0
// Threads, and an error by name where a process may have no more of them. CAF and UCX end or hang
// the process when one of theirs cannot be made, so they are asked for only after a look.
#pragma once

#include <caf/error.hpp>
#include <caf/expected.hpp>

#include <cstddef>
#include <functional>
#include <string_view>
#include <thread>

namespace kvferry {

/// What to do when a thread cannot be made.
inline constexpr std::string_view more_threads =
    "this process may have no more threads: raise pids.max of its cgroup (--pids-limit of a "
    "container), or ulimit -u";

/// A thread that runs `run`. system_call_failed says what it was for.
caf::expected<std::thread> make_thread(std::string_view what, std::function<void()> run);

/// system_call_failed when `count` more threads cannot be made now; it makes them, and ends them.
caf::error check_threads(std::string_view what, std::size_t count);

} // namespace kvferry
