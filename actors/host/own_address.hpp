// SPDX-License-Identifier: Apache-2.0
// Where a rank listens, when its host says it by a name: nothing below waits for a resolver.
#pragma once

#include "actors/instance/name_lookup.hpp"
#include "messages/values/info_endpoint.hpp"

#include <chrono>
#include <string>

namespace kvferry {

/// The address that the name stands for; an address is returned as it is. The errors are those of
/// name_lookup::find.
caf::expected<std::string> address_of(const std::string& host, std::chrono::milliseconds within,
                                      name_lookup& lookup = name_lookup::of_this_process());

/// The same for "host:port". What is no such text is returned as it is: whoever listens says so.
caf::expected<std::string> place_of(const std::string& text, std::chrono::milliseconds within,
                                    name_lookup& lookup = name_lookup::of_this_process());

} // namespace kvferry
