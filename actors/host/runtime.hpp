// SPDX-License-Identifier: Apache-2.0
// An actor system of kvferry's own, for hosts that have none.
#pragma once

#include "actors/host/worker.hpp"

#include <memory>

namespace kvferry {

/// Owns a prepared actor system. It may be destroyed before its workers, inside a callback, or as a
/// static object: the system ends with the last of its workers, on a thread made for that. The wait
/// for it is bounded, and a worker whose memory could not be proven quiet keeps it.
class runtime {
public:
    runtime();
    ~runtime();
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;

    /// Throws std::runtime_error when there is none: exit() has begun, the process may have no more
    /// threads, or it is a forked child.
    caf::actor_system& system();

    /// worker::start on this system.
    caf::expected<worker> start_worker(worker_options);

private:
    struct parts;
    std::shared_ptr<parts> parts_;
};

} // namespace kvferry
