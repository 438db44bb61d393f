// SPDX-License-Identifier: Apache-2.0
// What becomes of kvferry when its process forks or exits.
//
// exit() runs destructors of static objects while other threads go on, and takes CAF's thread-local
// state away from the thread that calls it. So what has threads ends before: in a handler that is
// registered after CAF's types, on a thread made for that. What is left then is never destroyed.
#pragma once

#include <caf/error.hpp>

#include <chrono>
#include <functional>
#include <memory>

namespace kvferry {

/// Something with threads that must end before the process's static objects do.
class ends_with_process {
public:
    virtual ~ends_with_process() = default;
    /// Called on a helper thread, once exit() has begun. False: something of it runs on.
    virtual bool end_with_process() = 0;
};

/// Functions, not an object: there is one process. Thread-safe.
class process_life {
public:
    /// From here on forks are noticed, and exit() ends what has been added. Call it after
    /// init_types(), any number of times.
    static void begin();

    /// This is the child of a process in which kvferry had begun: none of its threads exist here.
    static bool forked() noexcept;

    /// unsupported in such a child. Every call of the facade asks this first, in one place
    /// (host_calls::visit), and every start.
    static caf::error check();

    /// In which order exit() ends what was added: ranks before the systems that carry them.
    enum class stage { rank, system };
    static void add(stage, const std::shared_ptr<ends_with_process>&);

    /// Keeps something whose threads cannot be proven quiet. The process then ends without
    /// destructors: exit() flushes files and the log, and nothing more.
    static void keep(std::shared_ptr<void>);

    static constexpr std::chrono::milliseconds for_ever = std::chrono::hours{24 * 365};
    /// Runs `what` on a thread of its own and waits at most `patience`. False: it is still running,
    /// and exit() will not destroy anything before it has ended.
    static bool run_aside(std::function<void()> what,
                          std::chrono::milliseconds patience = for_ever);
};

} // namespace kvferry
