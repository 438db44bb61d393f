// SPDX-License-Identifier: Apache-2.0
// Columns as wide as what is in them.
#include "tools/instances/table.hpp"

#include "actors/discovery/instance_roles.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>

namespace kvferry::instances {

namespace {

constexpr std::size_t columns = 9;
using row = std::array<std::string, columns>;

std::string hex(std::uint64_t x) {
    std::array<char, 17> text;
    std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(x));
    return text.data();
}

row row_of(const instance_listing& x) {
    return {x.name,
            to_string(x.role),
            x.draining ? "draining" : "serving",
            x.endpoint,
            std::to_string(x.ranks),
            hex(x.layout_digest),
            std::to_string(x.protocol),
            x.release,
            x.fingerprint};
}

} // namespace

std::string to_text(const std::vector<instance_listing>& all) {
    std::vector<row> rows{{"instance", "role", "state", "endpoint", "ranks", "layout", "protocol",
                           "release", "fingerprint"}};
    for (const auto& each : all)
        rows.push_back(row_of(each));
    std::array<std::size_t, columns> width{};
    for (const auto& each : rows)
        for (std::size_t column = 0; column < columns; ++column)
            width[column] = std::max(width[column], each[column].size());
    std::string result;
    for (const auto& each : rows) {
        std::string line;
        for (std::size_t column = 0; column < columns; ++column)
            line += each[column] + std::string(width[column] - each[column].size() + 2, ' ');
        line.erase(line.find_last_not_of(' ') + 1);
        result += line + "\n";
    }
    return result;
}

std::string to_json(const std::vector<instance_listing>& all) {
    auto list = nlohmann::json::array();
    for (const auto& x : all)
        list.push_back({{"name", x.name},
                        {"role", to_string(x.role)},
                        {"draining", x.draining},
                        {"endpoint", x.endpoint},
                        {"ranks", x.ranks},
                        {"layout_digest", hex(x.layout_digest)},
                        {"protocol", x.protocol},
                        {"release", x.release},
                        {"fingerprint", x.fingerprint}});
    return nlohmann::json{{"instances", std::move(list)}}.dump() + "\n";
}

} // namespace kvferry::instances
