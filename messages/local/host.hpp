// SPDX-License-Identifier: Apache-2.0
// From the host's handles to the gate of a session.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/local/promised.hpp"
#include "messages/values/aux_record.hpp"
#include "messages/values/kv_slice.hpp"

#include <functional>
#include <memory>

namespace kvferry {

/// Abandoned when the last copy of it goes untold.
using piece_promise = std::shared_ptr<promised<piece_finished>>;
/// The place that a call takes among those that wait (limits::host_calls_max).
using host_call_place = std::shared_ptr<const void>;

struct host_send {
    kv_slice slice;
    device_events events;
    piece_promise done;
    host_call_place place = {};
};

struct host_send_aux {
    aux_record record;
    piece_promise done;
    host_call_place place = {};
};

struct host_receive {
    kv_slice slice;
    piece_promise done;
    host_call_place place = {};
    /// Only wait_for: no writer is asked for the slice before it has happened.
    device_events events = {};
};

struct run_callback {
    std::function<void()> callback;
    /// The session that it is about.
    rid request = {};
};

} // namespace kvferry
