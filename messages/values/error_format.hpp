// SPDX-License-Identifier: Apache-2.0
// Errors with a format string: ids print as their numbers, enumerations as their names. For sources
// only, so that hosts need no fmt.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/ids.hpp"

#include <spdlog/fmt/fmt.h>

#include <string>
#include <type_traits>
#include <utility>

namespace kvferry {

template <class First, class... More>
[[gnu::cold]] caf::error make_error(errc code, fmt::format_string<First, More...> text,
                                    First&& first, More&&... more) {
    return make_error(code,
                      fmt::format(text, std::forward<First>(first), std::forward<More>(more)...));
}

template <class First, class... More>
[[gnu::cold]] caf::error add_context(const caf::error& cause,
                                     fmt::format_string<First, More...> context, First&& first,
                                     More&&... more) {
    return add_context(
        cause, fmt::format(context, std::forward<First>(first), std::forward<More>(more)...));
}

/// An enumeration whose values have names.
template <class T>
concept named = std::is_enum_v<T> && requires(T x) {
    to_string(x);
};

} // namespace kvferry

template <class Tag, class Number>
struct fmt::formatter<kvferry::strong_id<Tag, Number>> : fmt::formatter<Number> {
    template <class Context>
    auto format(kvferry::strong_id<Tag, Number> x, Context& context) const {
        return fmt::formatter<Number>::format(x.value, context);
    }
};

template <kvferry::named Name>
struct fmt::formatter<Name> : fmt::formatter<std::string> {
    template <class Context>
    auto format(Name x, Context& context) const {
        return fmt::formatter<std::string>::format(to_string(x), context);
    }
};
