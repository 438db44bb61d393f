// SPDX-License-Identifier: Apache-2.0
// The texts of layout errors: the field, both values, both ranks.
#pragma once

#include "messages/errors.hpp"
#include "messages/values/rank_info.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::detail {

inline std::string text(std::uint64_t x) {
    return std::to_string(x);
}

inline std::string text(const std::string& x) {
    return '"' + x + '"';
}

template <class T>
std::string text(const std::vector<T>& list) {
    std::string result = "[";
    for (const auto& x : list)
        result += (result.size() > 1 ? ", " : "") + text(x);
    return result + "]";
}

template <class T>
std::string text(const std::optional<T>& x) {
    return x ? text(*x) : std::string{"none"};
}

/// Ascending numbers in short: "0-3", "0-1, 4".
template <class Numbers>
std::string ranges(const Numbers& numbers) {
    std::string result;
    for (auto next = numbers.begin(); next != numbers.end();) {
        const auto first = *next;
        auto last = first;
        for (++next; next != numbers.end() && *next == last + 1; ++next)
            last = *next;
        result.append(result.empty() ? "" : ", ").append(text(first));
        if (last != first)
            result.append("-").append(text(last));
    }
    return result;
}

/// Two layouts that do not go together.
template <class T>
caf::error mismatch(const std::string& field, const rank_info& writer, const T& writer_value,
                    const rank_info& receiver, const T& receiver_value) {
    return make_error(errc::layout_mismatch,
                      field + ": writer " + describe(writer) + " has " + text(writer_value)
                          + ", receiver " + describe(receiver) + " has " + text(receiver_value));
}

/// One rank's own description contradicts itself.
inline caf::error bad_layout(const rank_info& rank, const std::string& what) {
    return make_error(errc::layout_mismatch, "rank info of " + describe(rank) + ": " + what);
}

} // namespace kvferry::detail
