// SPDX-License-Identifier: Apache-2.0
// Identifies the process that owns memory: inside it, pointers into device memory are valid
// everywhere.
#pragma once

#include <cstdint>

namespace kvferry {

/// Random, drawn once per process.
std::uint64_t process_number();

} // namespace kvferry
