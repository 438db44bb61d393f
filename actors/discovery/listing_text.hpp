// SPDX-License-Identifier: Apache-2.0
// A listing as it stands in the directory: its name is the key, the rest is JSON.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/instance_listing.hpp"

#include <string>
#include <string_view>

namespace kvferry {

/// All but the name.
std::string text_of(const instance_listing&);

/// malformed_message: it is no listing. Fields of newer releases are skipped, those that are
/// missing keep their defaults; the endpoint must be there.
caf::expected<instance_listing> listing_from(std::string_view name, std::string_view text);

} // namespace kvferry
