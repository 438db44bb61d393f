// SPDX-License-Identifier: Apache-2.0
// Columns, arrows and their texts.
#include "tools/trace/pictures.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>
#include <vector>

namespace kvferry::tracing {

namespace {

using trace::instant;

bool wanted(const step& x, std::optional<std::uint64_t> rid) {
    return !rid || x.rid == *rid;
}

/// Columns of the actors that do something, in the order of their first event.
std::map<std::size_t, std::size_t> columns_of(const flow& from, std::optional<std::uint64_t> rid) {
    std::map<std::size_t, std::size_t> result;
    for (const auto& x : from.steps)
        if (wanted(x, rid))
            result.try_emplace(x.lane, result.size());
    return result;
}

const char* sign(instant what) {
    switch (what) {
    case instant::sent:
        return "->";
    case instant::asked:
        return "?>";
    case instant::dequeued:
        return "[";
    case instant::done:
        return "]";
    case instant::answered:
        return "<?";
    case instant::io_begin:
        return "(";
    case instant::io_end:
        return ")";
    case instant::wire_sent:
        return "=>";
    case instant::wire_received:
        return "=<";
    case instant::actor_ended:
        return "x";
    }
    return " ";
}

std::string event_text(const flow& from, const step& x) {
    auto text = std::string{sign(x.what)} + " " + std::string{x.message};
    if (x.what == instant::actor_ended)
        text = "x ended";
    if ((x.what == instant::sent || x.what == instant::asked || x.what == instant::wire_sent)
        && x.effect != no_step)
        text += " to " + from.lanes[from.steps[x.effect].lane].text();
    if (x.what == instant::io_begin || x.what == instant::io_end)
        text += " " + std::to_string(x.number) + " B";
    if (x.cause != no_step)
        text += " +" + duration_text(x.time_ns - from.steps[x.cause].time_ns);
    return text;
}

struct arrow {
    std::int64_t time_ns = 0;
    std::size_t from = 0;
    std::size_t to = 0;
    std::string text;
};

/// Messages between actors, operations as arrows to themselves. Frames and the links' own steps are
/// left out where a wire message tells the same.
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
            result.push_back(
                {x.time_ns, x.lane, x.lane,
                 std::string{x.message} + (x.key ? " (not handled)" : " (to outside)")});
        } else if (x.what == instant::io_begin && arrives) {
            const auto& end = from.steps[x.effect];
            result.push_back({x.time_ns, x.lane, x.lane,
                              std::string{x.message} + " " + std::to_string(end.number) + " B "
                                  + duration_text(end.time_ns - x.time_ns)});
        }
    }
    return result;
}

std::string pad(std::string text, std::size_t width) {
    if (text.size() > width)
        text.resize(width);
    text.append(width - text.size(), ' ');
    return text;
}

std::string time_text(std::int64_t ns) {
    char text[40];
    std::snprintf(text, sizeof text, "%12.3f", static_cast<double>(ns) / 1000);
    return text;
}

std::vector<std::size_t> lanes_of(const std::vector<arrow>& arrows,
                                  std::map<std::size_t, std::size_t>& columns) {
    std::vector<std::size_t> result;
    for (const auto& x : arrows)
        for (auto lane : {x.from, x.to})
            if (columns.try_emplace(lane, result.size()).second)
                result.push_back(lane);
    return result;
}

} // namespace

std::string duration_text(std::int64_t ns) {
    char text[40];
    if (ns < 10'000)
        std::snprintf(text, sizeof text, "%lld ns", static_cast<long long>(ns));
    else if (ns < 10'000'000)
        std::snprintf(text, sizeof text, "%.1f us", static_cast<double>(ns) * 1e-3);
    else
        std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(ns) * 1e-6);
    return text;
}

std::string event_lines(const flow& from, std::optional<std::uint64_t> rid) {
    const auto columns = columns_of(from, rid);
    std::string out = "columns, in the order of their first event:\n";
    std::vector<std::size_t> order(columns.size());
    for (const auto& [lane, column] : columns)
        order[column] = lane;
    for (std::size_t column = 0; column < order.size(); ++column)
        out += "  " + std::to_string(column + 1) + "  " + from.lanes[order[column]].text()
               + " (actor " + std::to_string(from.lanes[order[column]].actor_id) + ")\n";
    out += "-> sends  ?> asks  [ begins to handle  ] is done  <? has the answer  => to another "
           "rank  =< from another rank"
           "  ( operation begins  ) ends\n\n   time in us        rid  column\n";
    for (const auto& x : from.steps) {
        if (!wanted(x, rid))
            continue;
        const auto column = columns.at(x.lane);
        out += time_text(x.time_ns) + " " + pad(x.rid ? std::to_string(x.rid) : "-", 20)
               + std::string(2 * column, ' ') + std::to_string(column + 1) + " "
               + event_text(from, x) + "\n";
    }
    return out;
}

std::string sequence_text(const flow& from, std::uint64_t rid) {
    const auto arrows = arrows_of(from, rid);
    std::map<std::size_t, std::size_t> columns;
    const auto lanes = lanes_of(arrows, columns);
    if (lanes.empty())
        return "no message of rid " + std::to_string(rid) + " is in this run\n";
    constexpr std::size_t width = 26;
    std::string head = std::string(14, ' ');
    std::string ranks = head;
    for (auto lane : lanes) {
        ranks += pad(from.lanes[lane].rank.empty() ? "-" : from.lanes[lane].rank, width);
        head += pad(from.lanes[lane].actor, width);
    }
    std::string out = ranks + "\n" + head + "\n";
    for (const auto& x : arrows) {
        std::string line(lanes.size() * width, ' ');
        for (std::size_t column = 0; column < lanes.size(); ++column)
            line[column * width] = '|';
        const auto start = columns.at(x.from) * width;
        const auto end = columns.at(x.to) * width;
        const auto [left, right] = std::minmax(start, end);
        for (auto place = left + 1; place < right; ++place)
            line[place] = '-';
        if (start == end) {
            line.resize(std::max(line.size(), start + 4 + x.text.size()), ' ');
            line.replace(start + 2, x.text.size(), x.text);
        } else {
            line[start < end ? right - 1 : left + 1] = start < end ? '>' : '<';
            const auto room = right - left - 4;
            const auto text = " " + x.text.substr(0, std::min(x.text.size(), room - 2)) + " ";
            line.replace(left + 2, text.size(), text);
        }
        out += time_text(x.time_ns) + "  " + line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return out;
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
