// SPDX-License-Identifier: Apache-2.0
// Arrows between actors, and as few columns as a terminal has room for.
#include "tools/trace/pictures/pictures.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace kvferry::tracing {

namespace {

using trace::instant;

constexpr std::size_t line_bytes_max = 120;
constexpr std::size_t time_bytes = 13;
constexpr std::size_t text_bytes_min = 42;
constexpr std::size_t column_bytes_min = 5;
constexpr std::size_t column_bytes_max = 13; // "generation/0" and a space

struct arrow {
    std::int64_t time_ns = 0;
    std::size_t from = 0;
    std::size_t to = 0;
    std::string text;
    /// An operation, or a message that no recorded actor received.
    bool inside = false;
};

/// Messages are arrows between actors, operations are arrows from an actor to itself. Leaves out
/// frames and the links' own steps: wire messages show the same.
std::vector<arrow> arrows_of(const flow& from, std::uint64_t rid) {
    std::vector<arrow> result;
    for (const auto& x : from.steps) {
        if (x.rid != rid || x.message == "send_frame" || x.message == "frame_arrived"
            || x.message == "send_message")
            continue;
        const auto arrives = x.effect != no_step;
        if ((x.what == instant::sent || x.what == instant::asked || x.what == instant::wire_sent)
            && arrives) {
            const auto& end = from.steps[x.effect];
            result.push_back(
                {x.time_ns, x.lane, end.lane,
                 std::string{x.message} + " " + duration_text(end.time_ns - x.time_ns)});
        } else if (x.what == instant::sent || x.what == instant::asked
                   || x.what == instant::wire_sent) {
            result.push_back({x.time_ns, x.lane, x.lane,
                              std::string{x.message} + (x.key ? " (not handled)" : " (to outside)"),
                              true});
        } else if (x.what == instant::io_begin && arrives) {
            const auto& end = from.steps[x.effect];
            result.push_back({x.time_ns, x.lane, x.lane,
                              std::string{x.message} + " " + std::to_string(end.number) + " B "
                                  + duration_text(end.time_ns - x.time_ns),
                              true});
        }
    }
    return result;
}

/// What a column shows within its rank. A request's own actors have one column each, all other
/// actors of a rank share one.
enum class part { rest, session, copies, link };

part part_of(const std::string& actor) {
    if (actor.ends_with("_session"))
        return part::session;
    if (actor == "peer_link")
        return part::link;
    if (actor == "copy_io" || actor == "cuda_io" || actor == "fabric_io" || actor == "loopback_io")
        return part::copies;
    return part::rest;
}

const char* name_of(part x, const std::string& actor) {
    switch (x) {
    case part::session:
        return actor == "tx_session" ? "tx" : "rx";
    case part::link:
        return "link";
    case part::copies:
        return "io";
    case part::rest:
        break;
    }
    return "rest";
}

/// How many actors share one column, from few to many.
enum class fold { by_part, by_session, by_rank, by_instance };

part folded_part(const std::string& actor, fold how) {
    const auto result = part_of(actor);
    const auto alone = how == fold::by_part || (how == fold::by_session && result == part::session);
    return alone ? result : part::rest;
}

/// The group that a column stands in: "context/0", or "context" when there are too many ranks.
/// Actors without a rank belong to the host.
std::string group_of(const lane& x, fold how) {
    if (x.rank.empty())
        return "host";
    return how == fold::by_instance ? x.rank.substr(0, x.rank.rfind('/')) : x.rank;
}

struct column {
    std::string group;
    std::string name;
};

struct layout {
    std::vector<column> columns;
    std::size_t width = column_bytes_min;
    std::map<std::size_t, std::size_t> column_of_lane;
};

layout lay_out(const flow& from, const std::vector<arrow>& arrows, fold how) {
    std::vector<std::string> groups;
    std::map<std::pair<std::size_t, part>, std::string> wanted; // (group, part) -> name
    std::map<std::size_t, std::pair<std::size_t, part>> places;
    for (const auto& x : arrows)
        for (auto lane : {x.from, x.to}) {
            const auto& actor = from.lanes[lane];
            const auto group = group_of(actor, how);
            auto found = std::find(groups.begin(), groups.end(), group);
            if (found == groups.end())
                found = groups.insert(groups.end(), group);
            const auto place = std::pair{static_cast<std::size_t>(found - groups.begin()),
                                         folded_part(actor.actor, how)};
            wanted.try_emplace(place, actor.rank.empty() ? "" : name_of(place.second, actor.actor));
            places[lane] = place;
        }
    layout result;
    std::map<std::pair<std::size_t, part>, std::size_t> numbers;
    for (const auto& [place, name] : wanted) {
        numbers[place] = result.columns.size();
        result.columns.push_back({groups[place.first], name});
    }
    for (const auto& [lane, place] : places)
        result.column_of_lane[lane] = numbers[place];
    result.width =
        std::clamp((line_bytes_max - time_bytes - text_bytes_min) / result.columns.size(),
                   column_bytes_min, column_bytes_max);
    return result;
}

bool fits(const layout& x) {
    return time_bytes + x.columns.size() * x.width + text_bytes_min <= line_bytes_max;
}

/// "generation/0" in 8 bytes: "gener/0".
std::string shortened(const std::string& group, std::size_t bytes) {
    const auto slash = group.rfind('/');
    const auto end = slash == group.npos ? std::string{} : group.substr(slash);
    if (group.size() <= bytes || end.size() >= bytes)
        return group.substr(0, bytes);
    return group.substr(0, bytes - end.size()) + end;
}

std::string head_of(const layout& x) {
    std::string groups(time_bytes, ' '), names = groups;
    for (std::size_t first = 0; first < x.columns.size();) {
        auto end = first;
        while (end < x.columns.size() && x.columns[end].group == x.columns[first].group)
            ++end;
        auto text = shortened(x.columns[first].group, (end - first) * x.width - 1);
        text.resize((end - first) * x.width, ' ');
        groups += text;
        for (; first < end; ++first) {
            auto name = x.columns[first].name;
            name.resize(x.width, ' ');
            names += name;
        }
    }
    return groups + "\n" + names + "\n";
}

std::string line_of(const flow& from, const layout& columns, const arrow& x,
                    std::int64_t start_ns) {
    char time[40];
    std::snprintf(time, sizeof time, "%11.1f  ", static_cast<double>(x.time_ns - start_ns) / 1000);
    std::string line(columns.columns.size() * columns.width, ' ');
    for (std::size_t i = 0; i < columns.columns.size(); ++i)
        line[i * columns.width] = '|';
    const auto start = columns.column_of_lane.at(x.from) * columns.width;
    const auto end = columns.column_of_lane.at(x.to) * columns.width;
    for (auto place = std::min(start, end) + 1; place < std::max(start, end); ++place)
        line[place] = '-';
    if (start == end)
        line[start] = 'o';
    else
        line[start < end ? end - 1 : end + 1] = start < end ? '>' : '<';
    auto text = time + line + x.text;
    const auto& sender = from.lanes[x.from].actor;
    const auto& receiver = from.lanes[x.to].actor;
    const auto folded = [&](std::size_t lane) {
        return columns.columns[columns.column_of_lane.at(lane)].name == "rest";
    };
    if (sender != receiver && folded(x.from))
        text += ", from " + sender;
    if (sender != receiver && folded(x.to))
        text += ", to " + receiver;
    return text.substr(0, line_bytes_max) + "\n";
}

} // namespace

std::string sequence_text(const flow& from, std::uint64_t rid) {
    const auto arrows = arrows_of(from, rid);
    if (arrows.empty())
        return "no message of rid " + std::to_string(rid) + " is in this run\n";
    layout columns;
    for (auto how : {fold::by_part, fold::by_session, fold::by_rank, fold::by_instance}) {
        columns = lay_out(from, arrows, how);
        if (fits(columns))
            break;
    }
    const auto start_ns = arrows.front().time_ns;
    std::string lines;
    std::size_t inside = 0;
    for (const auto& x : arrows) {
        const auto stays = columns.column_of_lane.at(x.from) == columns.column_of_lane.at(x.to);
        const auto outside = x.inside && part_of(from.lanes[x.from].actor) == part::rest;
        if (outside || (stays && !x.inside))
            ++inside;
        else
            lines += line_of(from, columns, x, start_ns);
    }
    return "rid " + std::to_string(rid) + ", times in us from its first event, "
           + duration_text(start_ns) + " into the run; "
           + (inside ? std::to_string(inside) + " steps inside one column are left out; " : "")
           + "o: an operation\n" + head_of(columns) + lines;
}

static std::vector<std::size_t> lanes_of(const std::vector<arrow>& arrows,
                                         std::map<std::size_t, std::size_t>& columns) {
    std::vector<std::size_t> result;
    for (const auto& x : arrows)
        for (auto lane : {x.from, x.to})
            if (columns.try_emplace(lane, result.size()).second)
                result.push_back(lane);
    return result;
}

std::string sequence_mermaid(const flow& from, std::uint64_t rid) {
    const auto arrows = arrows_of(from, rid);
    std::map<std::size_t, std::size_t> columns;
    const auto lanes = lanes_of(arrows, columns);
    std::string out = "sequenceDiagram\n";
    for (auto lane : lanes)
        out += "    participant a" + std::to_string(lane) + " as " + from.lanes[lane].text() + "\n";
    for (const auto& x : arrows)
        out +=
            "    a" + std::to_string(x.from) + "->>a" + std::to_string(x.to) + ": " + x.text + "\n";
    return out;
}

} // namespace kvferry::tracing
