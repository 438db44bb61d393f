// SPDX-License-Identifier: Apache-2.0
// Numbers, bytes and tables as text for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::demo {

/// Columns that UTF-8 text takes on a terminal, if every character is one column wide.
std::size_t columns_of(std::string_view text);

/// "512 B", "8.0 KiB", "4.2 MiB".
std::string bytes_text(double bytes);

/// 16 digits.
std::string hex_text(std::uint64_t value);

/// "850 us", "3.1 ms", "2.4 s".
std::string seconds_text(double seconds);

/// One digit after the point.
std::string tenths_text(double value);

/// In decimal units; "-" when the time is zero.
std::string rate_text(std::uint64_t bytes, double seconds);

/// Any bytes in quotes and printable ASCII, at most `columns` wide: what is cut ends in "...".
std::string quoted(std::string_view bytes, std::size_t columns);

enum class align { left, right };

struct table_column {
    std::string title;
    align side = align::left;
};

/// Lines of a table, header first, columns two spaces apart, without trailing spaces. Every row
/// has a cell per column.
std::vector<std::string> format_table(const std::vector<table_column>& columns,
                                      const std::vector<std::vector<std::string>>& rows);

} // namespace kvferry::demo
