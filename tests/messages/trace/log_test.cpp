// SPDX-License-Identifier: Apache-2.0
// The log: quiet by default, one place to turn it up or to take it over.
#include "messages/errors.hpp"
#include "messages/trace/log.hpp"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <sstream>

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

    std::string text() const { return text_.str(); }

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
