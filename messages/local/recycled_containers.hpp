// SPDX-License-Identifier: Apache-2.0
// Containers and shared values in memory that goes round: of what is made and destroyed with each
// session.
#pragma once

#include "messages/local/recycled.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <utility>

namespace kvferry {

template <class Key, class Value, class Less = std::less<Key>>
using recycled_map = std::map<Key, Value, Less, recycling<std::pair<const Key, Value>>>;

template <class Key>
using recycled_set = std::set<Key, std::less<Key>, recycling<Key>>;

template <class T, class... Args>
std::shared_ptr<T> make_recycled(Args&&... args) {
    return std::allocate_shared<T>(recycling<T>{}, std::forward<Args>(args)...);
}

} // namespace kvferry
