// SPDX-License-Identifier: Apache-2.0
// Between the log and its sinks: a bounded queue and a thread, so that a sink that blocks (a full
// pipe behind standard error) delays no thread that logs.
#pragma once

#include <spdlog/sinks/sink.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

namespace kvferry {

/// Lines that wait for their sinks. When one more comes, the oldest goes; how many went is told in
/// a line of its own.
inline constexpr std::size_t log_lines_max = 4096;

/// How long flush() and the end of a queue wait for sinks.
inline constexpr std::chrono::milliseconds log_flush_deadline{1000};

/// A sink for one logger. Its thread starts with the first line. A forked child has no such thread
/// and writes no lines.
/// How a line looks. `text`: as the sinks' pattern says; the rank follows the logger's name.
/// `json`: the line is one JSON object (log_json.hpp), which the sinks must write as it is.
enum class log_format { text, json };

class log_queue final : public spdlog::sinks::sink {
public:
    explicit log_queue(std::vector<spdlog::sink_ptr> sinks, log_format = log_format::text);
    ~log_queue() override;

    void log(const spdlog::details::log_msg&) override;
    /// Waits until the lines that were there have been written, at most log_flush_deadline.
    void flush() override;
    /// No line waits for a sink, or is in one's hands.
    bool is_empty() const;
    void set_pattern(const std::string&) override;
    void set_formatter(std::unique_ptr<spdlog::formatter>) override;

private:
    struct shared;
    std::shared_ptr<shared> shared_;
};

/// Of the logger's queue (log.hpp): false while a sink does not return. It may then hold locks that
/// static objects need for their end.
bool log_is_written();

} // namespace kvferry
