// SPDX-License-Identifier: Apache-2.0
// Strict reading of JSON objects.
#include "tools/plan/json_fields.hpp"

#include "messages/values/error_format.hpp"

#include <charconv>
#include <fstream>
#include <limits>
#include <string_view>

namespace kvferry::tools {

namespace {

/// Fits layer lists of any model, and nothing that would fill the memory.
constexpr std::size_t layers_max = 1u << 16;

} // namespace

json_fields::json_fields(const nlohmann::json& object, std::string where)
    : object_(object), where_(std::move(where)) {
    if (!object_.is_object())
        fail("it is not an object");
}

const nlohmann::json* json_fields::find(const char* key) {
    asked_.insert(key);
    if (!object_.is_object())
        return nullptr;
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool json_fields::has(const char* key) const {
    return object_.is_object() && object_.contains(key) && !object_.at(key).is_null();
}

void json_fields::fail(const std::string& what) {
    if (!error_)
        error_ = make_error(errc::invalid_argument, "{}: {}", where_, what);
}

std::uint64_t json_fields::number(const char* key, std::optional<std::uint64_t> fallback) {
    const auto* x = find(key);
    if (x && x->is_number_unsigned())
        return x->get<std::uint64_t>();
    if (x || !fallback)
        fail(std::string{key}
             + (x ? " is " + x->dump() + ", not a number from 0 on" : " is missing"));
    return fallback.value_or(0);
}

std::optional<std::uint32_t> json_fields::optional_number(const char* key) {
    if (!find(key))
        return std::nullopt;
    const auto value = number(key);
    if (value > std::numeric_limits<std::uint32_t>::max())
        fail(std::string{key} + " is " + std::to_string(value));
    return static_cast<std::uint32_t>(value);
}

bool json_fields::flag(const char* key, bool fallback) {
    const auto* x = find(key);
    if (!x)
        return fallback;
    if (!x->is_boolean())
        fail(std::string{key} + " is " + x->dump() + ", not true or false");
    return x->is_boolean() && x->get<bool>();
}

std::string json_fields::text(const char* key, std::optional<std::string> fallback) {
    const auto* x = find(key);
    if (x && x->is_string())
        return x->get<std::string>();
    if (x || !fallback)
        fail(std::string{key} + (x ? " is " + x->dump() + ", not a text" : " is missing"));
    return fallback.value_or("");
}

std::vector<std::int64_t> json_fields::numbers(const char* key) {
    std::vector<std::int64_t> result;
    const auto* x = find(key);
    if (!x)
        return result;
    if (!x->is_array())
        fail(std::string{key} + " is " + x->dump() + ", not a list of numbers");
    else
        for (const auto& one : *x) {
            if (!one.is_number_integer()
                || (one.is_number_unsigned()
                    && one.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()))
                fail(std::string{key} + " has " + one.dump() + ", not a number");
            else
                result.push_back(one.get<std::int64_t>());
        }
    return result;
}

std::vector<std::string> json_fields::texts(const char* key) {
    std::vector<std::string> result;
    const auto* x = find(key);
    if (!x)
        return result;
    if (!x->is_array())
        fail(std::string{key} + " is " + x->dump() + ", not a list of texts");
    else
        for (const auto& one : *x) {
            if (one.is_string())
                result.push_back(one.get<std::string>());
            else
                fail(std::string{key} + " has " + one.dump() + ", not a text");
        }
    return result;
}

std::vector<std::uint32_t> json_fields::number_ranges(const char* key) {
    std::vector<std::uint32_t> result;
    const auto* x = find(key);
    const auto wrong = [&] {
        fail(std::string{key} + " is " + (x ? x->dump() : "missing")
             + ": give numbers, [0, 1] or \"0-31, 40\"");
        return std::vector<std::uint32_t>{};
    };
    const auto add = [&result](std::uint64_t first, std::uint64_t last) {
        if (last < first || last - first >= layers_max
            || last > std::numeric_limits<std::int32_t>::max()
            || result.size() + (last - first) >= layers_max)
            return false;
        for (auto value = first; value <= last; ++value)
            result.push_back(static_cast<std::uint32_t>(value));
        return true;
    };
    if (!x)
        return wrong();
    if (x->is_number_unsigned())
        return add(x->get<std::uint64_t>(), x->get<std::uint64_t>()) ? result : wrong();
    if (x->is_array()) {
        for (const auto& one : *x)
            if (!one.is_number_unsigned()
                || !add(one.get<std::uint64_t>(), one.get<std::uint64_t>()))
                return wrong();
        return result;
    }
    if (!x->is_string())
        return wrong();
    const auto& text = x->get_ref<const std::string&>();
    const auto* next = text.data();
    const auto* end = next + text.size();
    const auto read = [&](std::uint64_t& to) {
        const auto [after, failure] = std::from_chars(next, end, to);
        next = after;
        return failure == std::errc{};
    };
    for (;;) {
        std::uint64_t first = 0;
        if (!read(first))
            return wrong();
        auto last = first;
        if (next != end && *next == '-' && (++next, !read(last)))
            return wrong();
        if (!add(first, last))
            return wrong();
        if (next == end)
            return result;
        if (*next++ != ',')
            return wrong();
        while (next != end && *next == ' ')
            ++next;
    }
}

const nlohmann::json* json_fields::part(const char* key) {
    return find(key);
}

caf::error json_fields::finish() const {
    if (error_ || !object_.is_object())
        return error_;
    for (const auto& [key, value] : object_.items())
        if (!asked_.contains(key))
            return make_error(errc::invalid_argument, "{}: unknown field '{}'", where_, key);
    return {};
}

caf::expected<nlohmann::json> read_json_file(const std::string& path) {
    std::ifstream file{path};
    if (!file)
        return make_error(errc::invalid_argument, "{}: cannot be read", path);
    auto result = nlohmann::json::parse(file, nullptr, false);
    if (!result.is_object())
        return make_error(errc::invalid_argument, "{}: is not one JSON object", path);
    return result;
}

} // namespace kvferry::tools
