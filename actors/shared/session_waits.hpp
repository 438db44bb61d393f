// SPDX-License-Identifier: Apache-2.0
// What a session waits for, as one text.
#pragma once

#include "messages/local/status.hpp"
#include "messages/values/ids.hpp"

#include <string>
#include <vector>

namespace kvferry {

/// "nothing" when the list is empty.
inline std::string text_of(const std::vector<session_wait>& waits) {
    std::string result;
    for (const auto& x : waits)
        result.append(result.empty() ? "" : ", ").append(x.what);
    return result.empty() ? "nothing" : result;
}

} // namespace kvferry
