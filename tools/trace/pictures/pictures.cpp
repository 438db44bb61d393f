// SPDX-License-Identifier: Apache-2.0
// Lines, columns and their texts.
#include "tools/trace/pictures/pictures.hpp"

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
    case instant::joined_trace:
        return "^";
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
        text.append(" ").append(std::to_string(x.number)).append(" B");
    if (x.cause != no_step)
        text += " +" + duration_text(x.time_ns - from.steps[x.cause].time_ns);
    return text;
}

std::string pad(const std::string& text, std::size_t width) {
    std::string result(width, ' ');
    result.replace(0, std::min(text.size(), width), text, 0, width);
    return result;
}

std::string time_text(std::int64_t ns) {
    char text[40];
    std::snprintf(text, sizeof text, "%12.3f", static_cast<double>(ns) / 1000);
    return text;
}

} // namespace

std::string duration_text(std::int64_t ns) {
    return duration_text(std::chrono::nanoseconds{ns});
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

} // namespace kvferry::tracing
