// SPDX-License-Identifier: Apache-2.0
// Lines of the log as JSON, and what they say about who logs.
#include "messages/trace/log_json.hpp"
#include "messages/trace/log_queue.hpp"
#include "messages/trace/rank_counters.hpp"

#include <doctest/doctest.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <sstream>
#include <string>

using namespace kvferry;

namespace {

spdlog::details::log_msg line(std::string_view text) {
    return {"kvferry", spdlog::level::info, spdlog::string_view_t{text.data(), text.size()}};
}

bool has(const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
}

/// What a logger with this format writes for a warning of a rank about a request.
std::string written(log_format format, const char* pattern) {
    std::ostringstream text;
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text);
    sink->set_pattern(pattern);
    auto counters = std::make_shared<rank_counters>("context/3");
    {
        spdlog::logger logger{
            "kvferry", std::make_shared<log_queue>(std::vector<spdlog::sink_ptr>{sink}, format)};
        {
            const counting_for rank{counters};
            const working_on request{7};
            logger.warn("late");
        }
        logger.warn("of no rank");
        logger.flush();
    }
    return text.str();
}

} // namespace

TEST_CASE("log json: date, zone, level, process, rank and rid are fields") {
    const auto text = json_line(line("rid 7 is late"), "context/3", 7);
    CHECK(text.starts_with("{\"time\":\"20"));
    CHECK(has(text, "T"));
    CHECK(has(text, "\",\"level\":\"info\",\"pid\":"));
    CHECK(has(text, ",\"logger\":\"kvferry\",\"rank\":\"context/3\",\"rid\":7,"));
    CHECK(text.ends_with("\"message\":\"rid 7 is late\"}"));
    // 2026-11-29T22:10:00.123+01:00
    const auto time = text.substr(9, 29);
    CHECK(time[10] == 'T');
    CHECK(time[19] == '.');
    CHECK((time[23] == '+' || time[23] == '-'));
    CHECK(time[26] == ':');
}

TEST_CASE("log json: without a rank or a request these fields are not there") {
    const auto text = json_line(line("x"), "", 0);
    CHECK_FALSE(has(text, "rank"));
    CHECK_FALSE(has(text, "rid"));
}

TEST_CASE("log json: any bytes become a JSON text on one line") {
    CHECK(has(json_line(line("a\"b\\c\nd\x01"), "", 0),
              "\"message\":\"a\\\"b\\\\c\\u000ad\\u0001\"}"));
    CHECK(has(json_line(line("\xc3\xa4 \xff \xc3"), "", 0),
              "\"message\":\"\xc3\xa4 \\ufffd \\ufffd\"}"));
    CHECK(has(json_line(line("\xed\xa0\x80"), "", 0), "\\ufffd\\ufffd\\ufffd")); // half a pair
}

TEST_CASE("log queue: a line says for which rank it was logged, not who writes it") {
    CHECK(written(log_format::text, "%n: %v") == "kvferry context/3: late\nkvferry: of no rank\n");
    const auto json = written(log_format::json, "%v");
    CHECK(has(json, "\"rank\":\"context/3\",\"rid\":7,\"message\":\"late\"}\n{"));
    CHECK(json.ends_with("\"message\":\"of no rank\"}\n"));
}
