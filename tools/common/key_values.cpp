// SPDX-License-Identifier: Apache-2.0
// Strict parsing of "key=value,key=value".
#include "tools/common/key_values.hpp"

#include "messages/type_ids.hpp"
#include "messages/values/error_format.hpp"

#include <algorithm>
#include <charconv>

namespace kvferry::tools {

caf::expected<key_values> key_values::parse(std::string option, std::string_view text,
                                            std::initializer_list<std::string_view> keys) {
    key_values result;
    std::string known;
    for (auto key : keys)
        known += (known.empty() ? "" : ", ") + std::string{key};
    auto wrong = [&](std::string_view piece, const char* why) {
        return make_error(errc::invalid_argument, "{}: '{}' {}; keys are {}", option, piece, why,
                          known);
    };
    while (!text.empty()) {
        const auto piece = text.substr(0, text.find(','));
        text.remove_prefix(std::min(piece.size() + 1, text.size()));
        const auto equals = piece.find('=');
        if (equals == piece.npos || equals + 1 == piece.size())
            return wrong(piece, "is not key=value");
        const auto key = piece.substr(0, equals);
        if (std::find(keys.begin(), keys.end(), key) == keys.end())
            return wrong(piece, "has an unknown key");
        if (!result.values_.emplace(key, piece.substr(equals + 1)).second)
            return wrong(piece, "comes twice");
    }
    result.option_ = std::move(option);
    return result;
}

std::string key_values::text(std::string_view key, std::string_view fallback) const {
    const auto found = values_.find(key);
    return found == values_.end() ? std::string{fallback} : found->second;
}

caf::expected<std::uint32_t> key_values::number(std::string_view key,
                                                std::uint32_t fallback) const {
    const auto found = values_.find(key);
    if (found == values_.end())
        return fallback;
    const auto& digits = found->second;
    std::uint32_t value = 0;
    const auto [end, failure] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (failure != std::errc{} || end != digits.data() + digits.size())
        return make_error(errc::invalid_argument, "{}: {}={} is not a number below 2^32", option_,
                          key, digits);
    return value;
}

} // namespace kvferry::tools
