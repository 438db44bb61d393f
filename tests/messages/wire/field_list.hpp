// SPDX-License-Identifier: Apache-2.0
// The fields of a message as lines "path value", through its own inspect().
#pragma once

#include "messages/wire/protocol.hpp"

#include <caf/save_inspector_base.hpp>

#include <map>
#include <string>
#include <vector>

namespace kvferry::testing {

/// An inspector that writes down where each value stands, and the value.
class field_list : public caf::save_inspector_base<field_list> {
public:
    using lines = std::map<std::string, std::string>;

    template <class T>
    static lines of(const T& x) {
        field_list result;
        if (!result.apply(x))
            std::abort(); // it refuses nothing
        return std::move(result.lines_);
    }

    bool begin_object(caf::type_id_t, caf::string_view) { return open({}); }
    bool end_object() { return close(); }
    bool begin_field(caf::string_view name) { return open({name.data(), name.size()}); }
    bool begin_field(caf::string_view name, bool present) {
        begin_field(name);
        lines_[path() + "?"] = present ? "1" : "0";
        return true;
    }
    bool end_field() { return close(); }
    bool begin_sequence(std::size_t size) {
        lines_[place() + ".count"] = std::to_string(size);
        return open({}, true);
    }
    bool end_sequence() { return close(); }

    bool value(bool x) { return put(x ? "1" : "0"); }
    bool value(caf::byte x) { return put(std::to_string(caf::to_integer<unsigned>(x))); }
    bool value(caf::string_view x) { return put({x.data(), x.size()}); }
    template <class Number>
    requires std::is_integral_v<Number>
    bool value(Number x) { return put(std::to_string(x)); }

private:
    struct level {
        std::string name;
        bool is_list = false;
        std::size_t count = 0;
    };

    bool open(std::string name, bool is_list = false) {
        levels_.push_back({name.empty() ? next() : "." + name, is_list});
        return true;
    }
    bool close() {
        levels_.pop_back();
        return true;
    }
    bool put(std::string text) {
        lines_[place()] = std::move(text);
        return true;
    }
    /// "[2]" inside a list, else nothing.
    std::string next() {
        if (levels_.empty() || !levels_.back().is_list)
            return {};
        return "[" + std::to_string(levels_.back().count++) + "]";
    }
    std::string path() const {
        std::string result;
        for (const auto& each : levels_)
            result += each.name;
        return result;
    }
    std::string place() {
        const auto last = next();
        return path() + last;
    }

    std::vector<level> levels_;
    lines lines_;
};

} // namespace kvferry::testing
