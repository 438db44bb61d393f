// SPDX-License-Identifier: Apache-2.0
// Memory on a GPU; without CUDA it is refused by name.
#pragma once

#include "tools/bench/memory/memory.hpp"

namespace kvferry::bench {

/// The context side on the first device, the generation side on the last one.
caf::expected<std::unique_ptr<bench_memory>> make_device_memory(std::uint64_t bytes, side);

/// A host pool whose limit goes to a device.
caf::expected<std::unique_ptr<bench_memory>> make_host_source(std::unique_ptr<bench_memory>);

} // namespace kvferry::bench
