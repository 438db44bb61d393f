// SPDX-License-Identifier: Apache-2.0
// A log handler of UCX in front of its own, which prints.
#include "transport/ucx/ucx_log.hpp"

#include "messages/trace/log.hpp"

#include <ucs/debug/log_def.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <mutex>

namespace kvferry {

namespace {

/// kvferry reports failures itself, with names and advice; UCX's messages only add detail.
spdlog::level::level_enum level_of(ucs_log_level_t level) {
    switch (level) {
    case UCS_LOG_LEVEL_FATAL:
        return spdlog::level::critical;
    case UCS_LOG_LEVEL_ERROR:
        return spdlog::level::warn;
    case UCS_LOG_LEVEL_WARN:
        return spdlog::level::info;
    default:
        return spdlog::level::debug;
    }
}

ucs_log_func_rc_t forward(const char*, unsigned, const char*, ucs_log_level_t level,
                          const ucs_log_component_config_t* component, const char* format,
                          va_list arguments) {
    if (component != nullptr && level > component->log_level)
        return UCS_LOG_FUNC_RC_STOP;
    std::array<char, 1024> text{};
    std::vsnprintf(text.data(), text.size(), format, arguments);
    logger().log(level_of(level), "ucx: {}", text.data());
    return UCS_LOG_FUNC_RC_STOP;
}

} // namespace

void forward_ucx_log() {
    static std::once_flag once;
    std::call_once(once, [] { ucs_log_push_handler(forward); });
}

} // namespace kvferry
