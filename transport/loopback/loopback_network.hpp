// SPDX-License-Identifier: Apache-2.0
// The twins of one process and their addresses: what stands in for the network between them.
#pragma once

#include "messages/local/local_messages.hpp"
#include "messages/local/type_ids.hpp"
#include "messages/wire/codec.hpp"

#include <caf/actor_addr.hpp>
#include <caf/typed_actor.hpp>

#include <map>
#include <mutex>

namespace kvferry {

/// What a twin understands beside what every fabric does.
using loopback_actor = fabric_actor::extend_with<completion_actor>::extend<
    // A frame from another twin.
    caf::result<void>(frame_arrived),
    // Another twin writes into regions of this one; answered by transfer_done.
    caf::result<void>(start_copy),
    // Go on with the writes.
    caf::result<void>(deadline_tick),
    // For tests: this endpoint breaks now, as if the network had failed.
    caf::result<void>(endpoint_failed)>;

/// Shared by all twins that shall reach each other. Its lock is on no transfer's path: addresses
/// are looked up when an endpoint is opened, as a network would be asked.
class loopback_network {
public:
    /// The twin's address from now on.
    byte_buffer attach(const loopback_actor&);

    /// Nobody is found under this address any more.
    void detach(byte_view address);

    /// Nobody: the address is unknown or its twin is gone. invalid_argument: it is no address.
    caf::expected<loopback_actor> find(byte_view address) const;

private:
    mutable std::mutex mutex_;
    std::map<std::uint64_t, caf::actor_addr> twins_;
    std::uint64_t last_ = 0;
};

} // namespace kvferry
