// SPDX-License-Identifier: Apache-2.0
// An actor system of kvferry's own, for hosts that have none.
#pragma once

#include "actors/host/worker.hpp"

#include <memory>

namespace kvferry {

/// Owns a prepared actor system. Destroy its workers first.
class runtime {
public:
    runtime();
    ~runtime();
    runtime(const runtime&) = delete;
    runtime& operator=(const runtime&) = delete;

    caf::actor_system& system();

    /// worker::start on this system.
    caf::expected<worker> start_worker(worker_options);

private:
    struct parts;
    std::unique_ptr<parts> parts_;
};

} // namespace kvferry
