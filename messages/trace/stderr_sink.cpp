// SPDX-License-Identifier: Apache-2.0
// One write() for each line.
#include "messages/trace/stderr_sink.hpp"

#include <spdlog/details/os.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <unistd.h>

namespace kvferry {

namespace {

std::string_view colour_of(spdlog::level::level_enum level) {
    switch (level) {
    case spdlog::level::critical:
        return "\033[1m\033[41m";
    case spdlog::level::err:
        return "\033[31m\033[1m";
    case spdlog::level::warn:
        return "\033[33m\033[1m";
    case spdlog::level::info:
        return "\033[32m";
    default:
        return "\033[36m";
    }
}

} // namespace

stderr_sink::stderr_sink()
    : colours_(spdlog::details::os::in_terminal(stderr)
               && spdlog::details::os::is_color_terminal()) {}

void stderr_sink::sink_it_(const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t formatted;
    formatter_->format(message, formatted);
    std::string line{formatted.data(), formatted.size()};
    if (colours_ && message.color_range_end > message.color_range_start) {
        line.insert(message.color_range_end, "\033[m");
        line.insert(message.color_range_start, colour_of(message.level));
    }
    for (std::string_view rest = line; !rest.empty();) {
        const auto bytes = ::write(STDERR_FILENO, rest.data(), rest.size());
        if (bytes < 0 && errno != EINTR)
            return; // there is nobody else to tell
        rest.remove_prefix(bytes > 0 ? static_cast<std::size_t>(bytes) : 0);
    }
}

} // namespace kvferry
