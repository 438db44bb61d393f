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

/// Asked before each accept of ours: limit_exceeded when what is left must stay for UCX's listener,
/// which UCX closes for ever at the first accept without a descriptor. The connection then stays in
/// its queue, and the loop comes back later.
caf::error check_descriptors_to_accept();

} // namespace kvferry
