// SPDX-License-Identifier: Apache-2.0
// Lines in under a lock, lines out without it.
#include "messages/trace/log_queue.hpp"

#include "messages/trace/log_json.hpp"
#include "messages/trace/rank_counters.hpp"

#include <spdlog/details/log_msg_buffer.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace kvferry {

/// Belongs to the queue and to its thread: a sink may hold that thread for ever.
struct log_queue::shared {
    std::mutex mutex;
    std::condition_variable changed;
    /// What the thread that logs works for is not known any more when the line is written.
    struct entry {
        spdlog::details::log_msg_buffer line;
        rank_counters_ptr rank;
        std::uint64_t rid = 0;
    };
    std::deque<entry> lines;
    std::uint64_t added = 0;
    /// Written or dropped.
    std::uint64_t gone = 0;
    std::uint64_t dropped = 0;
    bool closed = false;
    /// Process that has the thread; 0: there is none.
    pid_t process = 0;
    std::vector<spdlog::sink_ptr> sinks;
    log_format format = log_format::text;

    bool forked() const { return process != 0 && process != ::getpid(); }

    static entry entry_of(const spdlog::details::log_msg& line) {
        return {spdlog::details::log_msg_buffer{line},
                counters_of_thread ? *counters_of_thread : nullptr, rid_of_thread};
    }

    void write(const entry& x) const {
        const auto rank = x.rank ? std::string_view{x.rank->rank()} : std::string_view{};
        auto line = spdlog::details::log_msg{x.line};
        std::string text;
        if (format == log_format::json) {
            text = json_line(line, rank, x.rid);
            line.payload = text;
        } else if (!rank.empty()) {
            text.assign(line.logger_name.data(), line.logger_name.size());
            text.append(text.empty() ? "" : " ").append(rank);
            line.logger_name = text;
        }
        write(line);
    }

    void write(const spdlog::details::log_msg& line) const {
        for (const auto& sink : sinks) {
            try {
                if (sink->should_log(line.level))
                    sink->log(line);
            } catch (const std::exception&) { // a line that cannot be written has nobody to tell
            }
        }
    }

    void write_dropped(std::uint64_t count, const spdlog::details::log_msg& before) const {
        const auto text =
            std::to_string(count) + " lines of the log were dropped: nobody read them in time";
        write(
            entry{spdlog::details::log_msg_buffer{{before.logger_name, spdlog::level::warn, text}},
                  {},
                  0});
    }

    void run() {
        std::unique_lock lock{mutex};
        for (;;) {
            changed.wait(lock, [this] { return closed || !lines.empty(); });
            if (lines.empty())
                return;
            const auto line = std::move(lines.front());
            lines.pop_front();
            const auto missing = std::exchange(dropped, 0);
            const bool last = lines.empty();
            lock.unlock();
            if (missing != 0)
                write_dropped(missing, line.line);
            write(line);
            if (last)
                for (const auto& sink : sinks)
                    sink->flush();
            lock.lock();
            ++gone;
            changed.notify_all();
        }
    }
};

log_queue::log_queue(std::vector<spdlog::sink_ptr> sinks, log_format format)
    : shared_(std::make_shared<shared>()) {
    shared_->sinks = std::move(sinks);
    shared_->format = format;
}

log_queue::~log_queue() {
    if (shared_->forked())
        return;
    flush();
    std::lock_guard lock{shared_->mutex};
    shared_->closed = true;
    shared_->changed.notify_all();
}

void log_queue::log(const spdlog::details::log_msg& line) {
    auto& queue = *shared_;
    if (queue.forked())
        return; // nobody would write it, and the lock may be held for ever
    std::unique_lock lock{queue.mutex};
    if (queue.process == 0) {
        try {
            std::thread{[its = shared_] { its->run(); }}.detach();
            queue.process = ::getpid();
        } catch (const std::system_error&) { // no more threads: better late than not at all
            lock.unlock();
            queue.write(shared::entry_of(line));
            return;
        }
    }
    if (queue.lines.size() == log_lines_max) {
        queue.lines.pop_front();
        ++queue.dropped;
        ++queue.gone;
    }
    queue.lines.push_back(shared::entry_of(line));
    ++queue.added;
    queue.changed.notify_all();
}

void log_queue::flush() {
    auto& queue = *shared_;
    if (queue.forked())
        return;
    std::unique_lock lock{queue.mutex};
    queue.changed.wait_for(lock, log_flush_deadline,
                           [&queue, until = queue.added] { return queue.gone >= until; });
}

bool log_queue::is_empty() const {
    std::lock_guard lock{shared_->mutex};
    return shared_->gone == shared_->added;
}

void log_queue::set_pattern(const std::string& pattern) {
    for (const auto& sink : shared_->sinks)
        sink->set_pattern(pattern);
}

void log_queue::set_formatter(std::unique_ptr<spdlog::formatter> formatter) {
    for (const auto& sink : shared_->sinks)
        sink->set_formatter(formatter->clone());
}

} // namespace kvferry
