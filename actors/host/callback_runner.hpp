// SPDX-License-Identifier: Apache-2.0
// Runs the callbacks of one rank's host in order, on a thread of their own: a callback that blocks
// or throws holds up other callbacks of its rank and nothing else.
#pragma once

#include "messages/errors.hpp"
#include "messages/local/host.hpp"
#include "messages/trace/rank_counters.hpp"

#include <chrono>
#include <cstddef>
#include <memory>

namespace kvferry {

/// The thread uses nothing of the rank: whatever has ended, callbacks that wait are still run.
class callback_runner {
public:
    /// Until close() a thread waits for callbacks. `keeps` lives as long as callbacks may run;
    /// `counters` counts those that throw.
    static caf::expected<std::shared_ptr<callback_runner>> make(std::shared_ptr<void> keeps,
                                                                rank_counters_ptr counters = {});

    /// Without a thread while there is nothing to run.
    static std::shared_ptr<callback_runner> make_closed();

    callback_runner(const callback_runner&) = delete;
    callback_runner& operator=(const callback_runner&) = delete;
    ~callback_runner();

    /// Never blocks. What the callback throws is counted and logged.
    void run(run_callback);

    /// Callbacks that wait or run.
    std::size_t waiting() const;

    /// The thread ends when it has run what waits; from now on each burst gets a thread of its own.
    void close();

    /// False: a callback has not returned by then.
    bool idle_within(std::chrono::milliseconds) const;

    /// True in a callback.
    static bool on_thread() noexcept;

private:
    struct queue;
    explicit callback_runner(std::shared_ptr<queue>);

    std::shared_ptr<queue> queue_;
};

} // namespace kvferry
