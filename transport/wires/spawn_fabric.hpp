// SPDX-License-Identifier: Apache-2.0
// The fabric of a rank: an actor on the rank's loop, over wires that are made there.
#pragma once

#include "messages/interfaces.hpp"
#include "transport/fabric/fabric_io.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/loop/io_loop.hpp"

#include <caf/expected.hpp>

#include <functional>
#include <memory>

namespace kvferry {

/// Makes a wire; runs on the loop's thread. After an error nothing is left.
using wire_maker = std::function<caf::expected<std::unique_ptr<wire>>()>;

/// Makes the fabric on the loop. From another thread it waits for the loop, at most
/// limits::dial_deadline; on the loop's own thread it does not wait. An error is the maker's, or
/// deadline_exceeded; then nothing is left. The fabric lives until stop_io.
caf::expected<fabric_actor> spawn_fabric(caf::actor_system&, io_loop&, fabric_dependencies,
                                         wire_maker);

} // namespace kvferry
