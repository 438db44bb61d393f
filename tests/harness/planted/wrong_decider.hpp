// SPDX-License-Identifier: Apache-2.0
// Ways to make a decider wrong: another event before the right value sees it, or other effects
// afterwards.
#pragma once

#include "actors/decisions/decider.hpp"
#include "messages/values/time.hpp"

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>
#include <variant>

namespace kvferry::harness {

template <class Effects>
void append(Effects& to, Effects more) {
    std::move(more.begin(), more.end(), std::back_inserter(to));
}

/// Removes all effects of this kind.
template <class Effect, class Effects>
void drop(Effects& all) {
    std::erase_if(all, [](const auto& each) { return std::holds_alternative<Effect>(each); });
}

/// Lets `spoil(event)` change what the right value hears; if it says false, the value hears
/// nothing.
template <class Value, class Spoil>
decider<Value> beforehand(Spoil spoil) {
    return [spoil](Value& value, typename Value::event x, time_point now) mutable {
        if constexpr (std::is_void_v<decltype(spoil(x))>) {
            spoil(x);
        } else {
            if (!spoil(x))
                return typename Value::effects{};
        }
        return value.on(std::move(x), now);
    };
}

/// Lets `spoil(effects)` or `spoil(effects, value)` change what the right value says.
template <class Value, class Spoil>
decider<Value> afterwards(Spoil spoil) {
    return [spoil](Value& value, typename Value::event x, time_point now) {
        auto result = value.on(std::move(x), now);
        if constexpr (std::is_invocable_v<Spoil, typename Value::effects&>)
            spoil(result);
        else
            spoil(result, value);
        return result;
    };
}

/// Does not do what `unwanted(effect)` holds for.
template <class Value, class Unwanted>
decider<Value> without(Unwanted unwanted) {
    return afterwards<Value>([unwanted](typename Value::effects& all) {
        std::erase_if(all, [&](auto& each) { return unwanted(each); });
    });
}

} // namespace kvferry::harness
