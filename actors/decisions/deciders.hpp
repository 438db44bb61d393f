// SPDX-License-Identifier: Apache-2.0
// All values of a rank that decide, and who is asked in their place.
#pragma once

#include "actors/decisions/decider.hpp"
#include "actors/decisions/handshake.hpp"
#include "actors/decisions/message_order.hpp"
#include "actors/decisions/peer_table.hpp"
#include "actors/decisions/registration.hpp"
#include "actors/decisions/stopping.hpp"

#include <memory>

namespace kvferry {

struct deciders {
    decider<kvferry::handshake> handshake;
    decider<kvferry::message_order> message_order;
    decider<kvferry::peer_table> peer_table;
    decider<kvferry::registration> registration;
    decider<kvferry::stopping> stopping;
};

/// Null in a product.
using deciders_ptr = std::shared_ptr<const deciders>;

} // namespace kvferry
