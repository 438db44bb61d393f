// SPDX-License-Identifier: Apache-2.0
// The one place where a process shows its ranks: /metrics, /livez and /readyz.
#pragma once

#include "actors/metrics/http_listener.hpp"
#include "actors/metrics/observed_rank.hpp"

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// How long one probe may take in all.
inline constexpr std::chrono::milliseconds probe_deadline{1000};

class process_metrics {
public:
    /// Ranks of one process share a listener, which lives as long as one of them holds it. A rank
    /// that asks for port 0 or for the same endpoint gets the one that is there; invalid_argument
    /// names it when another one is asked for.
    static caf::expected<std::shared_ptr<process_metrics>> at(const std::string& endpoint);

    const std::string& endpoint() const { return listener_->endpoint(); }

    void add(observed_rank&);
    /// Waits for a question to that rank that is under way, at most a little above probe_deadline.
    void remove(observed_rank&);

    /// 503 with the reasons when a rank is not live, or not ready.
    http_answer answer(const http_request&);

private:
    process_metrics() = default;

    http_answer probe(std::string (observed_rank::*why_not)(std::chrono::milliseconds));

    std::mutex mutex_;
    std::vector<observed_rank*> ranks_;
    std::string asked_for_;
    std::unique_ptr<http_listener> listener_;
};

} // namespace kvferry
