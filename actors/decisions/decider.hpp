// SPDX-License-Identifier: Apache-2.0
// How an actor asks its value for a decision: value.on(event, now) -> effects, and nothing else.
#pragma once

#include "messages/values/time.hpp"

#include <functional>
#include <utility>

namespace kvferry {

/// Asks a Value in place of Value::on. Empty in a product. The simulation wraps values in it, in
/// order to show that it finds a wrong decision; each actor has a copy of its own.
template <class Value>
using decider =
    std::function<typename Value::effects(Value&, typename Value::event, time_point now)>;

template <class Value>
typename Value::effects decide(const decider<Value>& by, Value& value,
                               typename Value::event&& event, time_point now) {
    return by ? by(value, std::move(event), now) : value.on(std::move(event), now);
}

} // namespace kvferry
