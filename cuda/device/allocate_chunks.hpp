// SPDX-License-Identifier: Apache-2.0
// Device memory of many physical chunks, as engines' expandable allocators make it: for programs
// that are no engine, and for tests. Needs the toolkit's headers.
#pragma once

#include "messages/errors.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace kvferry {

/// What an allocator asks for; none: chunks that no other process can map.
enum class chunk_handles { none, descriptor, fabric };

struct chunk_options {
    int ordinal = 0;
    /// Rounded up to what the device allows (2 MiB).
    std::uint64_t chunk_bytes = 0;
    chunk_handles handles = chunk_handles::descriptor;
};

/// At least `bytes`, in one range of addresses, for the device alone; freed with the last holder.
caf::expected<std::shared_ptr<std::byte>> allocate_chunks(std::uint64_t bytes, chunk_options);

} // namespace kvferry
