// SPDX-License-Identifier: Apache-2.0
// How numbers, bytes and tables are written.
#include "tools/common/text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace kvferry::demo {
namespace {

std::string number(double value, const char* unit) {
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), value < 100 ? "%.1f %s" : "%.0f %s", value, unit);
    return buffer.data();
}

std::string escaped(unsigned char byte) {
    switch (byte) {
    case '\n':
        return "\\n";
    case '\t':
        return "\\t";
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    default:
        break;
    }
    if (byte >= 0x20 && byte < 0x7f) {
        return std::string(1, static_cast<char>(byte));
    }
    std::array<char, 8> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "\\x%02x", byte);
    return buffer.data();
}

} // namespace

std::size_t columns_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) {
        return (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
    }));
}

std::string bytes_text(double bytes) {
    if (bytes < 1024) {
        return std::to_string(static_cast<std::uint64_t>(bytes)) + " B";
    }
    const char* unit = "KiB";
    for (const char* next : {"MiB", "GiB"}) {
        if (bytes < 1024.0 * 1024.0) {
            break;
        }
        bytes /= 1024.0;
        unit = next;
    }
    return number(bytes / 1024.0, unit);
}

std::string hex_text(std::uint64_t value) {
    std::array<char, 17> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%016llx", static_cast<unsigned long long>(value));
    return buffer.data();
}

std::string seconds_text(double seconds) {
    if (seconds < 0.001) {
        return std::to_string(std::lround(seconds * 1e6)) + " us";
    }
    return seconds < 1 ? number(seconds * 1e3, "ms") : number(seconds, "s");
}

std::string tenths_text(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", value);
    return text;
}

std::string rate_text(std::uint64_t bytes, double seconds) {
    if (bytes == 0 || seconds <= 0) {
        return "-";
    }
    const auto rate = static_cast<double>(bytes) / seconds / 1e9;
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), rate < 0.095 ? "%.4f" : "%.2f", rate);
    return buffer.data();
}

std::string quoted(std::string_view bytes, std::size_t columns) {
    const std::size_t room = columns < 8 ? 6 : columns - 2;
    std::string all;
    std::size_t fits = 0; // cut between escapes, never inside one
    for (char byte : bytes) {
        all += escaped(static_cast<unsigned char>(byte));
        if (all.size() + 3 <= room) {
            fits = all.size();
        }
    }
    return '"' + (all.size() <= room ? all : all.substr(0, fits) + "...") + '"';
}

std::vector<std::string> format_table(const std::vector<table_column>& columns,
                                      const std::vector<std::vector<std::string>>& rows) {
    std::vector<std::size_t> widths;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        widths.push_back(columns_of(columns[i].title));
        for (const auto& row : rows) {
            widths[i] = std::max(widths[i], columns_of(row[i]));
        }
    }
    const auto line = [&](auto&& cell) {
        std::string text;
        for (std::size_t i = 0; i < columns.size(); ++i) {
            const std::string& content = cell(i);
            const std::string padding(widths[i] - columns_of(content), ' ');
            text += i == 0 ? "" : "  ";
            text += columns[i].side == align::left ? content + padding : padding + content;
        }
        text.erase(text.find_last_not_of(' ') + 1);
        return text;
    };
    std::vector<std::string> lines;
    lines.push_back(line([&](std::size_t i) -> const std::string& { return columns[i].title; }));
    for (const auto& row : rows) {
        lines.push_back(line([&](std::size_t i) -> const std::string& { return row[i]; }));
    }
    return lines;
}

} // namespace kvferry::demo
