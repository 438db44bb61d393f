// SPDX-License-Identifier: Apache-2.0
// Whether an aux record is short enough to travel inside its result.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/aux_record.hpp"

#include <string>

namespace kvferry {

/// limit_exceeded when the record's content is longer than `bytes_max`.
inline caf::error check_aux_size(const aux_record& record, std::size_t bytes_max) {
    auto bytes = sizeof(std::int32_t) * (record.first_tokens.size() + record.draft_tokens.size())
                 + record.opaque.size();
    if (bytes <= bytes_max)
        return {};
    return make_error(errc::limit_exceeded,
                      "an aux record of " + std::to_string(bytes)
                          + " bytes is longer than aux_bytes_max = " + std::to_string(bytes_max));
}

} // namespace kvferry
