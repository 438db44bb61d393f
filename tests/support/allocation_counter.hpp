// SPDX-License-Identifier: Apache-2.0
// Counts the allocations of the calling thread, to check that code keeps its memory bounds.
#pragma once

#include <cstddef>

namespace kvferry::testing {

/// Counts from its construction on. Scopes must not nest. The binary must contain
/// allocation_counter.cpp.
class allocation_scope {
public:
    allocation_scope();
    ~allocation_scope();

    allocation_scope(const allocation_scope&) = delete;
    allocation_scope& operator=(const allocation_scope&) = delete;

    /// Most bytes that were live at one time.
    std::size_t peak_bytes() const;
    /// Largest single allocation.
    std::size_t largest_bytes() const;
};

} // namespace kvferry::testing
