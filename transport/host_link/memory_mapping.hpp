// SPDX-License-Identifier: Apache-2.0
// A peer's shared memory, mapped here. Refused unless the peer can no longer shrink it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Checks that `bytes` of a descriptor can be mapped by peers without harm to them.
/// registration_failed when it is not a memfd sealed against shrinking, or holds less.
caf::error check_shareable(int fd, std::uint64_t bytes);

/// Readable and writable while it lives. A forked child does not inherit it, so the end of this
/// process proves that nothing writes the peer's memory any more.
class memory_mapping {
public:
    /// Maps the first `bytes`, rounded up to whole pages, of a peer's descriptor; the descriptor is
    /// not needed afterwards. registration_failed when the file is smaller than promised or not
    /// sealed against shrinking: then an access could end in SIGBUS.
    static caf::expected<memory_mapping> make(int fd, std::uint64_t bytes);

    memory_mapping(memory_mapping&&) noexcept;
    memory_mapping& operator=(memory_mapping&&) noexcept;
    ~memory_mapping();

    std::byte* base() const noexcept { return base_; }
    std::uint64_t bytes() const noexcept { return bytes_; }

private:
    memory_mapping(std::byte* base, std::uint64_t bytes) noexcept : base_(base), bytes_(bytes) {}

    std::byte* base_;
    std::uint64_t bytes_;
};

} // namespace kvferry
