// SPDX-License-Identifier: Apache-2.0
// A JSON object read field by field; errors name the file, the place and the field.
#pragma once

#include "messages/errors.hpp"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace kvferry::tools {

/// Keeps the first error; what is read after it has no meaning.
class json_fields {
public:
    /// `where` begins every error: "a.json: tensor 3".
    json_fields(const nlohmann::json& object, std::string where);

    bool has(const char* key) const;
    /// null counts as not there.
    std::uint64_t number(const char* key, std::optional<std::uint64_t> fallback = {});
    std::optional<std::uint32_t> optional_number(const char* key);
    bool flag(const char* key, bool fallback);
    std::string text(const char* key, std::optional<std::string> fallback = {});
    std::vector<std::int64_t> numbers(const char* key);
    std::vector<std::string> texts(const char* key);
    /// [0, 1, 2], 7, or "0-31, 40".
    std::vector<std::uint32_t> number_ranges(const char* key);
    /// An object or list inside this one; nullptr when it is not there.
    const nlohmann::json* part(const char* key);

    void fail(const std::string& what);
    /// The first error, or a field that nobody has asked for.
    caf::error finish() const;
    const caf::error& error() const { return error_; }
    const std::string& where() const { return where_; }

private:
    const nlohmann::json* find(const char* key);

    const nlohmann::json& object_;
    std::string where_;
    std::set<std::string, std::less<>> asked_;
    caf::error error_;
};

/// The only JSON value of a file, which must be an object.
caf::expected<nlohmann::json> read_json_file(const std::string& path);

} // namespace kvferry::tools
