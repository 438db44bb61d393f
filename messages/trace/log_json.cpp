// SPDX-License-Identifier: Apache-2.0
// Escapes texts: what JSON forbids in them, and what is not UTF-8.
#include "messages/trace/log_json.hpp"

#include <spdlog/pattern_formatter.h>

#include <cstdio>
#include <unistd.h>

namespace kvferry {

namespace {

/// Bytes of the character that begins here; 0: this is not UTF-8.
std::size_t character_bytes(std::string_view text) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const auto first = byte(0);
    const std::size_t length = first < 0x80                    ? 1
                               : first >= 0xc2 && first < 0xe0 ? 2
                               : first >= 0xe0 && first < 0xf0 ? 3
                               : first >= 0xf0 && first < 0xf5 ? 4
                                                               : 0;
    if (length == 0 || length > text.size())
        return 0;
    for (std::size_t at = 1; at < length; ++at)
        if ((byte(at) & 0xc0) != 0x80)
            return 0;
    if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) >= 0xa0)
        || (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) >= 0x90))
        return 0;
    return length;
}

void add_text(std::string& to, std::string_view text) {
    to += '"';
    while (!text.empty()) {
        const auto length = character_bytes(text);
        const char first = text.front();
        if (length == 0) {
            to += "\\ufffd";
        } else if (first == '"' || first == '\\') {
            to.append({'\\', first});
        } else if (static_cast<unsigned char>(first) < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(first));
            to += escaped;
        } else {
            to.append(text.substr(0, length));
        }
        text.remove_prefix(length == 0 ? 1 : length);
    }
    to += '"';
}

std::string time_of(const spdlog::details::log_msg& line) {
    spdlog::pattern_formatter formatter{log_time_pattern, spdlog::pattern_time_type::local, ""};
    spdlog::memory_buf_t text;
    formatter.format(line, text);
    return {text.data(), text.size()};
}

std::string_view view(const spdlog::string_view_t& x) {
    return {x.data(), x.size()};
}

} // namespace

std::string json_line(const spdlog::details::log_msg& line, std::string_view rank,
                      std::uint64_t rid) {
    std::string result = "{\"time\":";
    add_text(result, time_of(line));
    result += ",\"level\":";
    add_text(result, view(spdlog::level::to_string_view(line.level)));
    result += ",\"pid\":" + std::to_string(::getpid()) + ",\"logger\":";
    add_text(result, view(line.logger_name));
    if (!rank.empty()) {
        result += ",\"rank\":";
        add_text(result, rank);
    }
    if (rid != 0)
        result += ",\"rid\":" + std::to_string(rid);
    result += ",\"message\":";
    add_text(result, view(line.payload));
    return result + "}";
}

} // namespace kvferry
