// SPDX-License-Identifier: Apache-2.0
// One line for a rank; why one says nothing stands below its table, where there is room.
#include "tools/trace/deployment/deployment_top.hpp"

#include "actors/discovery/instance_roles.hpp"
#include "tools/common/text.hpp"
#include "tools/trace/pictures/pictures.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <tuple>
#include <utility>

namespace kvferry::tracing {

namespace {

using counts = std::map<std::string, std::uint64_t>;

void add(counts& to, const std::vector<named_count>& from) {
    for (const auto& x : from)
        to[x.name] += x.count;
}

/// "3 TRANSFERRING, 1 INIT".
std::string text_of(const counts& all) {
    std::string result;
    for (const auto& [name, count] : all)
        result.append(result.empty() ? "" : ", ")
            .append(std::to_string(count))
            .append(" ")
            .append(name);
    return result.empty() ? "-" : result;
}

std::string rate_text(double x) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", x);
    return text;
}

std::uint64_t bytes_of(const rank_status& x, const char* side) {
    for (const auto& each : x.sides)
        if (each.side == side)
            return each.bytes;
    return 0;
}

/// What a line of the table shows; of one rank, or added up.
struct line {
    counts states;
    counts failed;
    std::uint64_t succeeded = 0;
    rank_rates rates;
    bool has_rates = false;

    void take(const rank_view& x, const std::map<std::string, rank_rates>& all) {
        for (const auto& side : x.said->sides) {
            add(states, side.states);
            add(failed, side.failed);
            succeeded += side.succeeded;
        }
        if (const auto found = all.find(x.name); found != all.end()) {
            rates.in += found->second.in;
            rates.out += found->second.out;
            has_rates = true;
        }
    }

    std::vector<std::string> cells(std::string name, std::string state) const {
        return {std::move(name),
                std::move(state),
                has_rates ? rate_text(rates.in) : "-",
                has_rates ? rate_text(rates.out) : "-",
                std::to_string(succeeded),
                text_of(states),
                text_of(failed)};
    }
};

/// "1" of "prefill-3/1".
std::string number_of(const rank_view& x) {
    const auto slash = x.name.rfind('/');
    return slash == x.name.npos ? "?" : x.name.substr(slash + 1);
}

std::string state_of(const rank_view& x) {
    return x.said ? x.said->phase : x.does_not_tell ? "does not tell" : "unreachable";
}

std::size_t told_by(const instance_view& x) {
    return static_cast<std::size_t>(std::count_if(
        x.ranks.begin(), x.ranks.end(), [](const auto& rank) { return rank.said.has_value(); }));
}

bool drains(const instance_view& x) {
    return (x.address.listed && x.address.listed->draining)
           || std::any_of(x.ranks.begin(), x.ranks.end(), [](const auto& rank) {
                  return rank.said && rank.said->phase == "draining";
              });
}

/// As far as it is known.
const char* service_of(const instance_view& x) {
    return drains(x) ? "draining" : x.address.listed || told_by(x) > 0 ? "serving" : "silent";
}

std::string table_of(const instance_view& x, const std::map<std::string, rank_rates>& rates) {
    const auto& listed = x.address.listed;
    auto result = x.name + "  " + (listed ? to_string(listed->role) + "  " : "") + service_of(x)
                  + "  " + std::to_string(told_by(x)) + " of "
                  + std::to_string(x.ranks.size() + x.ranks_unknown) + " ranks tell  "
                  + x.address.endpoint + "\n";
    std::vector<std::vector<std::string>> rows;
    std::string reasons;
    line all;
    for (const auto& rank : x.ranks) {
        line one;
        if (rank.said) {
            one.take(rank, rates);
            all.take(rank, rates);
            rows.push_back(one.cells(number_of(rank), state_of(rank)));
            if (!rank.said->problem.empty())
                reasons += "rank " + number_of(rank) + ": " + rank.said->problem + "\n";
        } else {
            rows.push_back({number_of(rank), state_of(rank), "-", "-", "-", "-", "-"});
            reasons += "rank " + number_of(rank) + ": " + rank.problem + "\n";
        }
    }
    if (told_by(x) > 1)
        rows.push_back(all.cells("all", ""));
    using demo::align;
    for (const auto& each : demo::format_table({{"rank", align::right},
                                                {"state"},
                                                {"in GB/s", align::right},
                                                {"out GB/s", align::right},
                                                {"done", align::right},
                                                {"sessions"},
                                                {"failed"}},
                                               rows))
        result += each + "\n";
    if (x.ranks_unknown > 0)
        reasons += "its " + std::to_string(x.ranks_unknown)
                   + " other ranks: rank 0 has not said where they are\n";
    return result + reasons;
}

struct listed_session {
    const rank_view* rank;
    const told_session* what;
};

/// Of all ranks; those that end next come first.
std::vector<listed_session> sessions_of(const std::vector<instance_view>& all) {
    std::vector<listed_session> result;
    for (const auto& instance : all)
        for (const auto& rank : instance.ranks)
            if (rank.said)
                for (const auto& each : rank.said->sessions)
                    result.push_back({&rank, &each});
    std::stable_sort(result.begin(), result.end(), [](const auto& a, const auto& b) {
        const auto key = [](const listed_session& x) {
            return std::tuple{!x.what->left_ns, x.what->left_ns.value_or(0), x.what->request.value};
        };
        return key(a) < key(b);
    });
    return result;
}

std::string waits_text(const told_session& x) {
    if (x.waits.empty())
        return "nothing";
    const auto& first = x.waits.front();
    auto text = first.what + " (" + (first.rank.empty() ? "" : first.rank + " ") + first.who + ")";
    if (const auto more = x.waits.size() - 1 + x.waits_untold)
        text += " and " + std::to_string(more) + " more";
    return text;
}

std::string duration_of(const std::optional<std::uint64_t>& ns, const char* none) {
    return ns ? duration_text(static_cast<std::int64_t>(*ns)) : none;
}

nlohmann::json json_of(const std::vector<named_count>& all) {
    auto result = nlohmann::json::object();
    for (const auto& x : all)
        result[x.name] = x.count;
    return result;
}

nlohmann::json json_of(const rank_view& x, const std::map<std::string, rank_rates>& rates) {
    nlohmann::json result{{"rank", x.name}, {"state", state_of(x)}};
    if (!x.problem.empty())
        result["problem"] = x.problem;
    if (!x.said)
        return result;
    if (!x.said->problem.empty())
        result["problem"] = x.said->problem;
    result["release"] = x.said->release;
    result["protocol"] = x.said->protocol;
    result["links"] = x.said->links;
    for (const auto& side : x.said->sides)
        result[side.side] = {{"states", json_of(side.states)},
                             {"succeeded", side.succeeded},
                             {"failed", json_of(side.failed)},
                             {"bytes", side.bytes},
                             {"quarantined_bytes", side.quarantined_bytes}};
    if (const auto found = rates.find(x.name); found != rates.end()) {
        result["in_gb_per_s"] = found->second.in;
        result["out_gb_per_s"] = found->second.out;
    }
    return result;
}

nlohmann::json json_of(const listed_session& x) {
    auto waits = nlohmann::json::array();
    for (const auto& each : x.what->waits)
        waits.push_back({{"what", each.what}, {"who", each.who}, {"rank", each.rank}});
    nlohmann::json result{{"rid", x.what->request.value}, {"attempt", x.what->attempt.value},
                          {"rank", x.rank->name},         {"side", x.what->side},
                          {"state", x.what->state},       {"waits", std::move(waits)}};
    if (x.what->left_ns)
        result["deadline_in_ns"] = *x.what->left_ns;
    if (x.what->age_ns)
        result["age_ns"] = *x.what->age_ns;
    return result;
}

} // namespace

std::map<std::string, rank_rates> rates_between(const std::vector<instance_view>& before,
                                                const std::vector<instance_view>& now) {
    std::map<std::string, const rank_status*> known;
    for (const auto& instance : before)
        for (const auto& rank : instance.ranks)
            if (rank.said)
                known[rank.name] = &*rank.said;
    std::map<std::string, rank_rates> result;
    for (const auto& instance : now)
        for (const auto& rank : instance.ranks) {
            const auto found = rank.said ? known.find(rank.name) : known.end();
            if (found == known.end() || rank.said->now_ns <= found->second->now_ns)
                continue;
            const auto ns = static_cast<double>(rank.said->now_ns - found->second->now_ns);
            const auto rate = [&](const char* side) {
                const auto then = bytes_of(*found->second, side);
                const auto here = bytes_of(*rank.said, side);
                return here < then ? -1 : static_cast<double>(here - then) / ns;
            };
            const rank_rates rates{rate("generation"), rate("context")};
            if (rates.in >= 0 && rates.out >= 0)
                result[rank.name] = rates;
        }
    return result;
}

std::string text_of(const std::vector<instance_view>& all,
                    const std::map<std::string, rank_rates>& rates, std::size_t rows) {
    std::string result;
    for (const auto& x : all)
        result += (result.empty() ? "" : "\n") + table_of(x, rates);
    const auto sessions = sessions_of(all);
    std::uint64_t more = sessions.size();
    for (const auto& instance : all)
        for (const auto& rank : instance.ranks)
            more += rank.said ? rank.said->sessions_untold : 0;
    std::vector<std::vector<std::string>> cells;
    for (const auto& x : sessions) {
        if (cells.size() == rows)
            break;
        cells.push_back({std::to_string(x.what->request.value), x.rank->name, x.what->side,
                         x.what->state, duration_of(x.what->age_ns, "-"),
                         duration_of(x.what->left_ns, "never"), waits_text(*x.what)});
    }
    if (cells.empty())
        return result;
    result += "\n";
    more -= cells.size();
    using demo::align;
    for (const auto& each : demo::format_table({{"rid", align::right},
                                                {"rank"},
                                                {"side"},
                                                {"state"},
                                                {"open for", align::right},
                                                {"ends in", align::right},
                                                {"waits for"}},
                                               cells))
        result += each + "\n";
    if (more > 0)
        result += "and " + std::to_string(more) + " more sessions\n";
    return result;
}

nlohmann::json json_of(const std::vector<instance_view>& all,
                       const std::map<std::string, rank_rates>& rates) {
    auto instances = nlohmann::json::array();
    for (const auto& x : all) {
        auto ranks = nlohmann::json::array();
        for (const auto& rank : x.ranks)
            ranks.push_back(json_of(rank, rates));
        nlohmann::json one{{"name", x.name},
                           {"endpoint", x.address.endpoint},
                           {"draining", drains(x)},
                           {"ranks", std::move(ranks)},
                           {"ranks_unknown", x.ranks_unknown}};
        if (x.address.listed)
            one["role"] = to_string(x.address.listed->role);
        instances.push_back(std::move(one));
    }
    auto sessions = nlohmann::json::array();
    for (const auto& x : sessions_of(all))
        sessions.push_back(json_of(x));
    return {{"instances", std::move(instances)}, {"sessions", std::move(sessions)}};
}

} // namespace kvferry::tracing
