// SPDX-License-Identifier: Apache-2.0
// Listings of instances for people and for programs.
#pragma once

#include "messages/values/instance_listing.hpp"

#include <string>
#include <vector>

namespace kvferry::instances {

/// One line each, under a head.
std::string to_text(const std::vector<instance_listing>&);

/// One JSON object on one line.
std::string to_json(const std::vector<instance_listing>&);

} // namespace kvferry::instances
