// SPDX-License-Identifier: Apache-2.0
// CAF tolerates being told of a type again, so a host may have done the same before.
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

#include <caf/init_global_meta_objects.hpp>

namespace kvferry {

void init_message_types() {
    static const bool once = [] {
        caf::core::init_global_meta_objects();
        caf::init_global_meta_objects<caf::id_block::kvferry>();
        return true;
    }();
    static_cast<void>(once);
}

} // namespace kvferry
