// SPDX-License-Identifier: Apache-2.0
// Makes the logger when it is first asked for.
#include "messages/trace/log.hpp"

#include "messages/trace/log_json.hpp"
#include "messages/trace/log_queue.hpp"
#include "messages/trace/stderr_sink.hpp"
#include "messages/values/error_format.hpp"

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// nullopt: the name is unknown.
std::optional<spdlog::level::level_enum> level_named(std::string_view name) {
    const auto level = spdlog::level::from_str(std::string{name});
    if (level == spdlog::level::off && name != "off") // spdlog's answer to unknown names
        return {};
    return level;
}

caf::error unknown_level(std::string_view name) {
    return make_error(errc::invalid_argument,
                      "log level '{}' is not one of trace, debug, info, warn, error, critical, off",
                      name.substr(0, 64));
}

/// A logger that puts lines into a queue for these sinks.
std::shared_ptr<spdlog::logger> queued(const std::string& name, std::vector<spdlog::sink_ptr> sinks,
                                       log_format format = log_format::text) {
    auto result = std::make_shared<spdlog::logger>(
        name, std::make_shared<log_queue>(std::move(sinks), format));
    result->flush_on(spdlog::level::critical); // the process ends next
    return result;
}

/// Kept out of spdlog's registry, so that the host's calls there do not change it.
std::shared_ptr<spdlog::logger> make_logger() {
    const char* wanted = std::getenv("KVFERRY_LOG_FORMAT");
    const std::string_view format{wanted != nullptr ? wanted : "text"};
    const bool json = format == "json";
    auto result = queued("kvferry", {std::make_shared<stderr_sink>()},
                         json ? log_format::json : log_format::text);
    std::string line = "%v";
    if (!json)
        line.insert(0, " %P %^%l%$ %n: ").insert(0, log_time_pattern);
    result->set_pattern(std::move(line));
    result->set_level(spdlog::level::err);
    std::atexit([] { logger().flush(); });
    if (const char* name = std::getenv("KVFERRY_LOG")) {
        if (auto level = level_named(name))
            result->set_level(*level);
        else
            result->error("KVFERRY_LOG: {}", text_of(unknown_level(name)));
    }
    if (!json && format != "text")
        result->error("KVFERRY_LOG_FORMAT: '{}' is not one of text, json", format.substr(0, 64));
    return result;
}

/// Never destroyed: threads that outlive main() may still log.
std::shared_ptr<spdlog::logger>& current() {
    static auto& logger = *new std::shared_ptr<spdlog::logger>{make_logger()};
    return logger;
}

} // namespace

spdlog::logger& logger() {
    return *current();
}

void set_logger(std::shared_ptr<spdlog::logger> other) {
    if (!other)
        return;
    auto front = queued(other->name(), other->sinks());
    front->set_level(other->level());
    current() = std::move(front);
}

bool log_is_written() {
    for (const auto& sink : logger().sinks())
        if (const auto* queue = dynamic_cast<const log_queue*>(sink.get()); queue != nullptr)
            if (!queue->is_empty())
                return false;
    return true;
}

caf::error set_log_level(std::string_view name) {
    const auto level = level_named(name);
    if (!level)
        return unknown_level(name);
    logger().set_level(*level);
    return {};
}

} // namespace kvferry
