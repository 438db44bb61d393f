// SPDX-License-Identifier: Apache-2.0
// The twins of one process and their addresses: replaces the network between them.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/sessions.hpp"
#include "messages/type_ids.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"

#include <caf/actor_addr.hpp>
#include <caf/typed_actor.hpp>

#include <map>
#include <mutex>

namespace kvferry {

/// Shared by all twins that shall reach each other. Its lock is on no transfer's path: addresses
/// are looked up when an endpoint is opened, as a network would be asked.
class loopback_network {
public:
    /// Registers a twin and returns its address.
    byte_buffer attach(const loopback_actor&);

    /// Forgets the twin at this address.
    void detach(byte_view address);

    /// Null: the address is unknown or its twin has ended. invalid_argument: not a loopback
    /// address.
    caf::expected<loopback_actor> find(byte_view address) const;

private:
    mutable std::mutex mutex_;
    std::map<std::uint64_t, caf::actor_addr> twins_;
    std::uint64_t last_ = 0;
};

} // namespace kvferry
