// SPDX-License-Identifier: Apache-2.0
// Sends the spans of a process to a collector, on a thread of its own.
#pragma once

#include "messages/errors.hpp"
#include "messages/trace/span_queue.hpp"

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

namespace kvferry {

class span_sender {
public:
    /// Spans of one request, and how often it looks for some.
    static constexpr std::size_t batch_max = 512;
    static constexpr std::chrono::milliseconds period{1000};
    /// Of one request.
    static constexpr std::chrono::milliseconds call_max{2000};
    /// Between two tries of one batch.
    static constexpr std::chrono::milliseconds longest_rest{30'000};

    /// Ranks of one process share a sender, which lives as long as one of them holds it.
    /// invalid_argument: no URL of a collector, or another one than the process has already;
    /// unsupported: built without libcurl, or there is none here.
    static caf::expected<std::shared_ptr<span_sender>> at(const std::string& endpoint);

    /// Sends what is left, at most call_max long; what is then left is dropped.
    ~span_sender();
    span_sender(const span_sender&) = delete;
    span_sender& operator=(const span_sender&) = delete;

    const std::shared_ptr<span_queue>& queue() const;

private:
    struct state;
    explicit span_sender(std::unique_ptr<state>);

    std::unique_ptr<state> state_;
};

} // namespace kvferry
