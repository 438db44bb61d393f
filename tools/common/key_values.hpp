// SPDX-License-Identifier: Apache-2.0
// Options of the form "tp=2,tp_rank=0": known keys only, each at most once.
#pragma once

#include "messages/errors.hpp"

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

namespace kvferry::tools {

class key_values {
public:
    /// invalid_argument names the option, the piece that is wrong and the keys that exist.
    static caf::expected<key_values> parse(std::string option, std::string_view text,
                                           std::initializer_list<std::string_view> keys);

    std::string text(std::string_view key, std::string_view fallback) const;

    /// Decimal, below 2^32. invalid_argument names option and key.
    caf::expected<std::uint32_t> number(std::string_view key, std::uint32_t fallback) const;

private:
    std::string option_;
    std::map<std::string, std::string, std::less<>> values_;
};

/// Reads several numbers. Keeps the first error and skips the rest.
class number_reader {
public:
    explicit number_reader(const key_values& from) : from_(from) {}

    void read(std::string_view key, std::uint32_t& to) {
        if (error)
            return;
        if (auto value = from_.number(key, to))
            to = *value;
        else
            error = value.error();
    }

    caf::error error;

private:
    const key_values& from_;
};

} // namespace kvferry::tools
