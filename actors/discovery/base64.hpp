// SPDX-License-Identifier: Apache-2.0
// Bytes in JSON, as etcd's gateway writes them (RFC 4648, with padding).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kvferry {

std::string to_base64(std::string_view bytes);

/// Nothing when the text is none.
std::optional<std::string> from_base64(std::string_view text);

} // namespace kvferry
