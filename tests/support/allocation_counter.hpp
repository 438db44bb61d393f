// SPDX-License-Identifier: Apache-2.0
// Counts what the calling thread allocates, to hold code to its promise of bounded memory.
#pragma once

#include <cstddef>

namespace kvferry::testing {

/// Counts from its construction on; scopes do not nest. Needs allocation_counter.cpp in the binary.
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
