// SPDX-License-Identifier: Apache-2.0
// Copies that end in doubt and land later, as the launches of a device may that was lost; and
// memory in which a bit flips when a copy has just landed.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/values/copy_plan.hpp"
#include "transport/loop/resident.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace kvferry::harness {

struct copy_doubt {
    /// Copies that begin now end in doubt.
    bool now = false;
    std::vector<copy_job> undecided;
    /// Which bit of a copy that has landed flips, modulo its length; null, or nothing: none.
    std::function<std::optional<std::uint64_t>()> flip = {};
};

/// Hands copies on to `real`, or puts them in doubt.
copy_actor spawn_doubtful_copies(caf::actor_system&, placement, copy_actor real,
                                 std::shared_ptr<copy_doubt>);

} // namespace kvferry::harness
