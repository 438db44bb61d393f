// SPDX-License-Identifier: Apache-2.0
// Standard output for people: no line is wider than the terminal, and no character is written that
// the user's locale cannot show. What machines read goes to std::cout.
#pragma once

#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>

namespace kvferry::tools {

/// Standard output and standard error for people. Flush them as you would std::cout.
std::ostream& people();
std::ostream& people_errors();

/// Whether LC_ALL, LC_CTYPE or LANG, the first that is set, names UTF-8.
bool locale_shows_utf8();

/// Every character outside of ASCII as one that looks like it: lines and corners as - | +.
std::string to_ascii(std::string_view);

/// The line in parts of at most `columns`. Text is broken between words and goes on under its last
/// table cell; a picture made of lines is cut, with `>` where something is missing.
std::string fold_line(std::string_view line, std::size_t columns);

} // namespace kvferry::tools
