// SPDX-License-Identifier: Apache-2.0
// How many descriptors this process may still open. UCX ends its *peers'* processes when it gets
// none, so links are refused before that.
#pragma once

#include "messages/errors.hpp"

#include <cstddef>

namespace kvferry {

/// Raises the soft limit of open descriptors to the hard one, as every process may. Logs it once.
void raise_descriptor_limit();

/// limit_exceeded when fewer than `reserve` descriptors are left.
caf::error check_descriptors(std::size_t reserve);

} // namespace kvferry
