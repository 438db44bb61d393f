// SPDX-License-Identifier: Apache-2.0
// The secret of a deployment as text: which lines there are, and whether they are good for one.
#pragma once

#include <caf/expected.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// The key of a connection is derived from it, and whoever records a handshake may try guesses
/// offline: this many characters of hexadecimal digits are 128 bits.
inline constexpr std::size_t secret_characters_min = 32;
inline constexpr std::size_t secret_characters_max = 1024;
/// The one shown to others and those that are accepted besides.
inline constexpr std::size_t secrets_max = 4;

/// The secrets in a text, the one to show first. invalid_argument names the line and what is wrong
/// with it, and never shows it. `from` names the text in errors.
caf::expected<std::vector<std::string>> parse_secrets(std::string_view text, std::string_view from);

/// The text of a file. invalid_argument: it cannot be read, is no plain file, or others than its
/// user and group may read or change it.
/// What it is called in errors comes first there.
caf::expected<std::string> read_secret_file(const std::string& path,
                                            std::string_view what_it_is = "secret file");

} // namespace kvferry
