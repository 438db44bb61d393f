// SPDX-License-Identifier: Apache-2.0
// Which process memory belongs to: pointers into device memory are good everywhere inside it.
#pragma once

#include <cstdint>

namespace kvferry {

/// Drawn once per process.
std::uint64_t process_number();

} // namespace kvferry
