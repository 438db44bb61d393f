// SPDX-License-Identifier: Apache-2.0
// A peer's shared memory, mapped here. Refused unless the peer can no longer shrink it.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/unique_fd.hpp"

#include <cstddef>
#include <cstdint>

namespace kvferry {

/// Readable and writable while it lives. A child that this process forks does not inherit it:
/// the end of this process is then proof that the peer's memory is left alone.
class memory_mapping {
public:
    /// Maps the first `bytes`, rounded up to whole pages, of a descriptor that came from a peer;
    /// the descriptor itself is not needed afterwards. registration_failed, and never a mapping,
    /// when the file is smaller than promised or is not sealed against shrinking: an access could
    /// end in SIGBUS.
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
