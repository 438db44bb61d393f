// SPDX-License-Identifier: Apache-2.0
// What a frame on its way says, read once by whoever watches the network.
#pragma once

#include "messages/wire/protocol.hpp"

#include <memory>

namespace kvferry::harness {

/// Null: nobody has read it, or it cannot be read.
using read_frame = std::shared_ptr<const wire_message>;

} // namespace kvferry::harness
