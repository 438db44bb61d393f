// SPDX-License-Identifier: Apache-2.0
// Counts and sorts the answers of sessions.
#include "tools/trace/live/top.hpp"

#include "tools/common/text.hpp"
#include "tools/trace/pictures/pictures.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <tuple>

namespace kvferry::tracing {

namespace {

using trace::session_record;

/// A rank whose loop does not answer is in state "UNKNOWN".
bool silent(const session_record& x) {
    return x.state == "UNKNOWN";
}

std::optional<std::int64_t> left_ns(const session_record& x) {
    if (x.deadline_ns == 0)
        return {};
    return static_cast<std::int64_t>(x.deadline_ns) - static_cast<std::int64_t>(x.now_ns);
}

std::string waits_text(const session_record& x) {
    if (x.waits.empty())
        return "nothing";
    const auto& first = x.waits.front();
    auto text = first.what + " (" + (first.rank.empty() ? "" : first.rank + " ") + first.who + ")";
    if (const auto more = x.waits.size() - 1)
        text += " and " + std::to_string(more) + " more";
    return text;
}

} // namespace

overview overview_of(const std::vector<recording>& answers) {
    overview result;
    for (const auto& x : answers) {
        for (const auto& rank : x.ranks)
            result.ranks[rank.rank];
        for (const auto& session : x.sessions) {
            ++result.ranks[session.rank][session.state];
            result.sessions.push_back(session);
        }
    }
    std::stable_sort(result.sessions.begin(), result.sessions.end(),
                     [](const session_record& a, const session_record& b) {
                         const auto key = [](const session_record& x) {
                             const auto left = left_ns(x);
                             return std::tuple{!silent(x), !left, left.value_or(0), x.rid};
                         };
                         return key(a) < key(b);
                     });
    return result;
}

std::string text_of(const overview& all, const std::vector<silent_process>& silent_ones,
                    std::size_t rows) {
    std::string result;
    for (const auto& x : silent_ones)
        result += x.name + ", process " + std::to_string(x.process_id) + ", " + x.state + "\n";
    for (const auto& [rank, states] : all.ranks) {
        result += rank + ":";
        for (const auto& [state, count] : states)
            result.append(" ").append(std::to_string(count)).append(" ").append(state);
        result += states.empty() ? " no session\n" : "\n";
    }
    std::vector<std::vector<std::string>> cells;
    for (const auto& x : all.sessions) {
        if (cells.size() == rows)
            break;
        const auto left = left_ns(x);
        cells.push_back({silent(x) ? "-" : std::to_string(x.rid), x.rank, x.side, x.state,
                         left ? duration_text(*left) : "never", waits_text(x)});
    }
    if (cells.empty())
        return result;
    result += "\n";
    for (const auto& line : demo::format_table({{"rid", demo::align::right},
                                                {"rank"},
                                                {"side"},
                                                {"state"},
                                                {"ends in", demo::align::right},
                                                {"waits for"}},
                                               cells))
        result += line + "\n";
    if (const auto more = all.sessions.size() - cells.size())
        result += "and " + std::to_string(more) + " more, which have more time\n";
    return result;
}

nlohmann::json json_of(const overview& all, const std::vector<silent_process>& silent_ones) {
    auto ranks = nlohmann::json::array();
    for (const auto& [rank, states] : all.ranks)
        ranks.push_back({{"rank", rank}, {"sessions", states}});
    auto sessions = nlohmann::json::array();
    for (const auto& x : all.sessions) {
        auto waits = nlohmann::json::array();
        for (const auto& y : x.waits)
            waits.push_back({{"what", y.what}, {"who", y.who}, {"rank", y.rank}});
        sessions.push_back({{"rid", x.rid},
                            {"attempt", x.attempt},
                            {"rank", x.rank},
                            {"side", x.side},
                            {"state", x.state},
                            {"waits", waits}});
        if (const auto left = left_ns(x))
            sessions.back()["deadline_in_ns"] = *left;
    }
    auto nobody = nlohmann::json::array();
    for (const auto& x : silent_ones)
        nobody.push_back({{"name", x.name}, {"process", x.process_id}, {"state", x.state}});
    return {{"ranks", ranks}, {"sessions", sessions}, {"silent", nobody}};
}

} // namespace kvferry::tracing
