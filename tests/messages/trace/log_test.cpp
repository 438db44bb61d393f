// SPDX-License-Identifier: Apache-2.0
// The log: quiet by default, one place to turn it up or to take it over.
#include "messages/errors.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/log_queue.hpp"

#include <doctest/doctest.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/ostream_sink.h>

#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using namespace kvferry;

namespace {

/// The log as the test found it comes back at the end.
class captured_log {
public:
    captured_log() {
        // A logger with the first one's sinks and level replaces it afterwards.
        before_ = logger().clone("kvferry");
        auto mine = std::make_shared<spdlog::logger>(
            "host", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_));
        mine->set_pattern("%l %v");
        set_logger(std::move(mine));
    }
    ~captured_log() { set_logger(before_); }

    std::string text() const {
        logger().flush();
        return text_.str();
    }

private:
    std::ostringstream text_;
    std::shared_ptr<spdlog::logger> before_;
};

} // namespace

TEST_CASE("log: errors are shown and nothing below them, unless somebody asks") {
    if (std::getenv("KVFERRY_LOG"))
        return; // the user set a level
    CHECK(logger().level() == spdlog::level::err);
}

TEST_CASE("log: a host's logger gets every line") {
    captured_log log;
    logger().warn("rid {} is late", 7);
    CHECK(log.text() == "warning rid 7 is late\n");
}

TEST_CASE("log: a level is set by name") {
    captured_log log;
    CHECK_FALSE(set_log_level("error"));
    logger().warn("unheard");
    CHECK_FALSE(set_log_level("warn"));
    logger().warn("heard");
    CHECK(log.text() == "warning heard\n");
}

TEST_CASE("log: an unknown level is refused, and the old one stays") {
    captured_log log;
    CHECK_FALSE(set_log_level("off"));
    auto error = set_log_level("loud");
    CHECK(code_of(error) == errc::invalid_argument);
    CHECK(text_of(error).find("'loud' is not one of trace, debug") != std::string::npos);
    CHECK(logger().level() == spdlog::level::off);
}

TEST_CASE("log: null is not taken for a logger") {
    captured_log log;
    set_logger(nullptr); // null is refused: the former logger stays
    logger().error("still there");
    CHECK(log.text() == "error still there\n");
}

namespace {

/// Holds whoever writes until the test lets go; keeps the lines.
class blocking_sink final : public spdlog::sinks::base_sink<std::mutex> {
public:
    explicit blocking_sink(std::shared_future<void> until) : until_(std::move(until)) {}
    std::vector<std::string> lines() {
        std::lock_guard lock{mutex_};
        return lines_;
    }
    std::string last() {
        std::lock_guard lock{mutex_};
        return lines_.empty() ? std::string{} : lines_.back();
    }

private:
    void sink_it_(const spdlog::details::log_msg& line) override {
        until_.wait();
        lines_.emplace_back(line.payload.data(), line.payload.size());
    }
    void flush_() override {}

    std::shared_future<void> until_;
    std::vector<std::string> lines_;
};

} // namespace

TEST_CASE(
    "log: a sink that blocks holds up nobody; the oldest lines go, and their number is told") {
    captured_log before;
    std::promise<void> let_go;
    auto sink = std::make_shared<blocking_sink>(let_go.get_future().share());
    set_logger(std::make_shared<spdlog::logger>("host", sink));
    constexpr std::size_t more = 100;
    auto logging = std::async(std::launch::async, [] {
        for (std::size_t i = 0; i < log_lines_max + more; ++i)
            logger().error("{}", i);
    });
    const bool done = logging.wait_for(std::chrono::seconds{20}) == std::future_status::ready;
    CHECK(done); // although nothing can be written
    let_go.set_value();
    logging.get();
    constexpr std::size_t count = log_lines_max + more;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (sink->last() != std::to_string(count - 1) && std::chrono::steady_clock::now() < until)
        logger().flush();
    std::size_t next = 0, dropped = 0;
    for (const auto& line : sink->lines()) {
        if (line.find("lines of the log were dropped") == line.npos) {
            CHECK(line == std::to_string(next++)); // in order
            continue;
        }
        next += std::stoul(line);
        dropped += std::stoul(line);
    }
    CHECK(next == count);
    CHECK(dropped >= more - 1); // the writer may have taken one line before the queue was full
}
