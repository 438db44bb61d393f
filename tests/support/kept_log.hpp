// SPDX-License-Identifier: Apache-2.0
// What is logged while it lives, at this level and above.
#pragma once

#include "messages/trace/log.hpp"

#include <spdlog/sinks/base_sink.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::testing {

/// Made and destroyed while nobody else changes the logger.
class kept_log {
public:
    explicit kept_log(spdlog::level::level_enum level) : former_(logger().level()) {
        logger().sinks().push_back(lines_);
        logger().set_level(std::min(level, former_));
    }
    kept_log(const kept_log&) = delete;
    ~kept_log() {
        logger().set_level(former_);
        std::erase(logger().sinks(), lines_);
    }

    /// Lines that have it in their text.
    int count(std::string_view part) const { return lines_->count(part); }
    /// Waits for one, 20 s at most.
    bool has(std::string_view part) const { return lines_->has(part); }

private:
    class lines final : public spdlog::sinks::base_sink<std::mutex> {
    public:
        int count(std::string_view part) {
            std::lock_guard guard{mutex_};
            return counted(part);
        }
        bool has(std::string_view part) {
            std::unique_lock guard{mutex_};
            return changed_.wait_for(guard, std::chrono::seconds{20},
                                     [&] { return counted(part) > 0; });
        }

    protected:
        void sink_it_(const spdlog::details::log_msg& line) override {
            all_.emplace_back(line.payload.data(), line.payload.size());
            changed_.notify_all();
        }
        void flush_() override {}

    private:
        int counted(std::string_view part) const {
            return static_cast<int>(
                std::count_if(all_.begin(), all_.end(), [part](const std::string& line) {
                    return line.find(part) != std::string::npos;
                }));
        }

        std::vector<std::string> all_;
        std::condition_variable changed_;
    };

    spdlog::level::level_enum former_;
    std::shared_ptr<lines> lines_ = std::make_shared<lines>();
};

} // namespace kvferry::testing
