// SPDX-License-Identifier: Apache-2.0
// What a receiving side says to context ranks of one attempt. Pure.
#pragma once

#include "messages/wire/protocol.hpp"

#include <utility>
#include <vector>

namespace kvferry {

/// The attempt needs nothing from that rank any more.
inline cancel_session cancel_of(rid request, attempt attempt, rank_id writer,
                                const caf::error& why) {
    cancel_session result;
    result.header.request = request;
    result.header.attempt = attempt;
    result.header.writer = writer;
    result.to = side::context;
    result.reason = to_wire(why);
    return result;
}

/// A request that nothing has to be done for: the bystander's session ends when its host has given
/// all, instead of waiting for its deadline.
inline request_data request_for_nothing(rid request, attempt attempt, rank_id bystander,
                                        rank_id self) {
    request_data result;
    result.header.request = request;
    result.header.attempt = attempt;
    result.header.writer = bystander;
    result.target.last = true;
    result.kv = false;
    result.receivers = {self};
    return result;
}

/// A sibling has handed on what that writer has for this receiver: its session waits to hear so.
inline request_data request_for_relayed(rid request, attempt attempt, rank_id writer,
                                        slice_index number, std::vector<rank_id> receivers) {
    auto result = request_for_nothing(request, attempt, writer, {});
    result.header.receive_slice = number;
    result.relayed = true;
    result.receivers = std::move(receivers);
    return result;
}

} // namespace kvferry
