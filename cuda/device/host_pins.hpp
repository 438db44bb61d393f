// SPDX-License-Identifier: Apache-2.0
// Host memory that devices address under the host's own addresses. Serves one device; used on the
// thread of its actor. Needs the toolkit's headers.
#pragma once

#include "messages/errors.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace kvferry {

class host_pins {
public:
    host_pins() = default;
    host_pins(const host_pins&) = delete;
    host_pins& operator=(const host_pins&) = delete;
    ~host_pins() { remove_all(); }

    /// Memory that other code has pinned (cudaHostAlloc, pin_memory of torch) is used as it is, and
    /// stays pinned afterwards; what lies between is pinned here.
    caf::error add(std::byte* base, std::uint64_t bytes);
    /// Call once per success of add().
    void remove(std::byte* base);
    void remove_all();

private:
    struct pinned {
        std::size_t users = 0;
        std::vector<std::byte*> registered;
    };
    std::map<std::byte*, pinned> pins_;
};

} // namespace kvferry
