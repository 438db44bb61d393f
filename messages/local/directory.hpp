// SPDX-License-Identifier: Apache-2.0
// Instances by name: looked up in a directory, and listed there.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/instance_listing.hpp"
#include "messages/values/time.hpp"

#include <optional>
#include <string>

namespace kvferry {

/// Where is the instance of that name? Until then, also while the directory is away.
struct find_instance {
    std::string name;
    time_point until;
};

struct instance_found {
    instance_listing listing;
};

/// Keep this in the directory for as long as the rank lives.
struct list_instance {
    instance_listing listing;
};

/// What has changed about the own instance; what is missing stays.
struct describe_instance {
    std::optional<instance_role> role;
    std::optional<bool> draining;
};

} // namespace kvferry
