// SPDX-License-Identifier: Apache-2.0
// One question over TCP, from the first dial to the answer. Blocks, never beyond its deadline.
#pragma once

#include "messages/limits.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "transport/secure/security.hpp"

#include <caf/expected.hpp>

namespace kvferry {

/// The answer's frame. An asker who has a deadline of its own, which names the time that it had,
/// gives `grace`: so much longer all goes on but the search for a name. `hang_up`: an eventfd,
/// readable once the answer is not wanted any more; -1: it always is. foreign_peer: the other side
/// is not trusted, or does not trust this process. dial_failed, link_lost, deadline_exceeded,
/// stopped: nobody there, or the way broke.
caf::expected<byte_buffer> ask_over_tcp(const call_info_server&, const security&, const limits&,
                                        clock::duration grace = {}, int hang_up = -1);

} // namespace kvferry
