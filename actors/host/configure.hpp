// SPDX-License-Identifier: Apache-2.0
// Prepares a host's own actor system for kvferry.
//
//     kvferry::init_types();              // first thing in main()
//     caf::actor_system_config config;
//     kvferry::configure(config);         // what the host has set stays
//     caf::actor_system system{config};
#pragma once

#include <caf/error.hpp>
#include <caf/fwd.hpp>

namespace kvferry {

/// Tells CAF about its own types and ours. Call it before the first actor_system of the process,
/// from any thread, any number of times.
void init_types();

/// Loads CAF's network layer and sets what kvferry needs. Values that the host has set already
/// stay, so call it after the host's own settings.
void configure(caf::actor_system_config&);

/// Every worker checks this first. unsupported names what is missing and what to do: the types or
/// the network layer (configure was not called), a scheduler for tests, a scheduler of one thread.
caf::error check_prepared(caf::actor_system&);

} // namespace kvferry
