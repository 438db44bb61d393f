// SPDX-License-Identifier: Apache-2.0
// A FABRIC handle of the driver is bytes, and a same-host link passes descriptors on: the bytes
// travel in a file of their own. Built everywhere.
#pragma once

#include "messages/errors.hpp"

#include <array>
#include <optional>

namespace kvferry {

/// As CUmemFabricHandle has it.
using fabric_handle = std::array<unsigned char, 64>;

/// A sealed memfd with the handle; the caller closes it.
caf::expected<int> fabric_handle_file(const fabric_handle&);

/// The handle in such a file. None: the descriptor is something else, as a handle of type POSIX
/// file descriptor is.
std::optional<fabric_handle> fabric_handle_in(int descriptor);

} // namespace kvferry
