// SPDX-License-Identifier: Apache-2.0
// Makes CAF know our types before main() starts: include it in every test file that uses actors.
#pragma once

#include "messages/init_types.hpp"
#include "messages/local/copies.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/directory.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/host.hpp"
#include "messages/local/host_link.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/links.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/sessions.hpp"
#include "messages/local/status.hpp"
#include "messages/local/worker.hpp"
#include "messages/type_ids.hpp"
#include "messages/wire/protocol.hpp"

namespace kvferry::testing {

/// Must be over before the first actor_system is made; one object per test binary.
inline const bool caf_is_set_up = (init_message_types(), true);

} // namespace kvferry::testing
