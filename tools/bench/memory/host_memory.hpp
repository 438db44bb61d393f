// SPDX-License-Identifier: Apache-2.0
// --memory host: a memfd pool, and memcpy between two of them by some threads as the limit.
#pragma once

#include "tools/bench/memory/memory.hpp"
#include "transport/host_link/memory_mapping.hpp"

namespace kvferry::bench {

caf::expected<std::unique_ptr<bench_memory>> make_host_memory(std::uint64_t bytes, bool huge_pages,
                                                              std::uint32_t limit_threads);

/// The memfd pool of another process of this user.
caf::expected<memory_mapping> map_pool(const pool_address&);

} // namespace kvferry::bench
