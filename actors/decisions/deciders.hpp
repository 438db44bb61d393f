// SPDX-License-Identifier: Apache-2.0
// All values of a rank that decide, and who is asked in their place.
#pragma once

#include "actors/decisions/decider.hpp"
#include "actors/decisions/links/handshake.hpp"
#include "actors/decisions/links/message_order.hpp"
#include "actors/decisions/links/peer_table.hpp"
#include "actors/decisions/receiving/known_instances.hpp"
#include "actors/decisions/receiving/receiving.hpp"
#include "actors/decisions/receiving/receiving_after_death.hpp"
#include "actors/decisions/receiving/receiving_links.hpp"
#include "actors/decisions/receiving/receiving_sessions.hpp"
#include "actors/decisions/registration.hpp"
#include "actors/decisions/sending/early_requests.hpp"
#include "actors/decisions/sending/sending.hpp"
#include "actors/decisions/sending/sending_memory.hpp"
#include "actors/decisions/sending/sending_sessions.hpp"
#include "actors/decisions/stopping.hpp"

#include <memory>

namespace kvferry {

struct deciders {
    decider<kvferry::sending> sending;
    decider<kvferry::sending_sessions> sending_sessions;
    decider<kvferry::sending_memory> sending_memory;
    decider<kvferry::early_requests> early_requests;
    decider<kvferry::receiving> receiving;
    decider<kvferry::receiving_sessions> receiving_sessions;
    decider<kvferry::receiving_links> receiving_links;
    decider<kvferry::receiving_after_death> receiving_after_death;
    decider<kvferry::known_instances> known_instances;
    decider<kvferry::handshake> handshake;
    decider<kvferry::message_order> message_order;
    decider<kvferry::peer_table> peer_table;
    decider<kvferry::registration> registration;
    decider<kvferry::stopping> stopping;
};

/// Null in a product.
using deciders_ptr = std::shared_ptr<const deciders>;

} // namespace kvferry
