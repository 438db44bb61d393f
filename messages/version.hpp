// SPDX-License-Identifier: Apache-2.0
// Which release this is: shown by programs, logs and recordings.
#pragma once

#include <string_view>

namespace kvferry {

/// "0.1.0".
std::string_view version() noexcept;

} // namespace kvferry
