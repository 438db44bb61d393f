// SPDX-License-Identifier: Apache-2.0
// Slices, flows and counters, and the rules that a file must obey.
#include "tools/trace/perfetto.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

namespace kvferry::tracing {

namespace {

using nlohmann::json;
using trace::instant;

double microseconds(std::int64_t ns) {
    return static_cast<double>(ns) / 1000;
}

} // namespace

json perfetto_json(const flow& from) {
    json events = json::array();
    std::map<std::pair<std::size_t, std::string>, int> processes;
    const auto process_of = [&](const lane& x) {
        const auto [place, fresh] =
            processes.try_emplace({x.process, x.rank}, static_cast<int>(processes.size()) + 1);
        if (fresh)
            events.push_back(
                {{"ph", "M"},
                 {"name", "process_name"},
                 {"pid", place->second},
                 {"tid", 0},
                 {"args",
                  {{"name", x.rank.empty() ? from.recordings[x.process].program : x.rank}}}});
        return place->second;
    };
    std::vector<int> pids;
    for (std::size_t i = 0; i < from.lanes.size(); ++i) {
        const auto& x = from.lanes[i];
        pids.push_back(process_of(x));
        events.push_back({{"ph", "M"},
                          {"name", "thread_name"},
                          {"pid", pids.back()},
                          {"tid", i + 1},
                          {"args", {{"name", x.actor + " " + std::to_string(x.actor_id)}}}});
    }
    std::map<int, std::int64_t> waiting, moving;
    const auto count = [&](int pid, const step& x, const char* name, std::int64_t value) {
        events.push_back({{"ph", "C"},
                          {"name", name},
                          {"pid", pid},
                          {"tid", 0},
                          {"ts", microseconds(x.time_ns)},
                          {"args", {{name, value}}}});
    };
    for (std::size_t index = 0; index < from.steps.size(); ++index) {
        const auto& x = from.steps[index];
        const auto pid = pids[x.lane];
        json event{{"pid", pid},
                   {"tid", x.lane + 1},
                   {"ts", microseconds(x.time_ns)},
                   {"name", std::string{x.message}}};
        if (x.rid != 0)
            event["args"]["rid"] = std::to_string(x.rid);
        if (x.attempt != 0)
            event["args"]["attempt"] = std::to_string(x.attempt);
        const auto flow_end = [&](const char* phase, std::size_t id) {
            json arrow{{"ph", phase},       {"pid", pid},
                       {"tid", x.lane + 1}, {"ts", microseconds(x.time_ns)},
                       {"name", "message"}, {"cat", "message"},
                       {"id", id + 1}};
            if (*phase == 'f')
                arrow["bp"] = "e";
            events.push_back(std::move(arrow));
        };
        switch (x.what) {
        case instant::dequeued:
        case instant::io_begin:
            event["ph"] = "X";
            event["cat"] = x.what == instant::dequeued ? "handler" : "operation";
            event["dur"] =
                x.effect == no_step ? 0.0 : microseconds(from.steps[x.effect].time_ns - x.time_ns);
            if (x.what == instant::io_begin) {
                event["args"]["bytes"] = x.number;
                // Operations overlap, so they get tracks of their own beside the actor's handlers.
                event["ph"] = "b";
                event["id"] = index + 1;
                event.erase("dur");
                count(pid, x, "bytes moving", moving[pid] += static_cast<std::int64_t>(x.number));
            }
            events.push_back(event);
            if (x.what == instant::dequeued && x.cause != no_step) {
                flow_end("f", x.cause);
                count(pid, x, "messages waiting", --waiting[pid]);
            }
            break;
        case instant::io_end:
            if (x.cause == no_step)
                break;
            event["ph"] = "e";
            event["cat"] = "operation";
            event["id"] = x.cause + 1;
            events.push_back(event);
            count(pid, x, "bytes moving",
                  moving[pid] -= static_cast<std::int64_t>(from.steps[x.cause].number));
            break;
        case instant::sent:
        case instant::asked:
        case instant::wire_sent:
        case instant::wire_received:
        case instant::answered:
            // A slice of length zero: an arrow must begin at a slice.
            event["ph"] = "X";
            event["cat"] = "send";
            event["dur"] = 0.0;
            events.push_back(event);
            if (x.what == instant::wire_received && x.cause != no_step)
                flow_end("f", x.cause);
            if (x.effect != no_step && x.what != instant::wire_received
                && x.what != instant::answered) {
                flow_end("s", index);
                if (x.what != instant::wire_sent) {
                    const auto there = pids[from.steps[x.effect].lane];
                    count(there, x, "messages waiting", ++waiting[there]);
                }
            }
            break;
        default:
            break;
        }
    }
    return {{"traceEvents", std::move(events)}, {"displayTimeUnit", "ns"}};
}

std::vector<std::string> problems_of_perfetto(const json& file) {
    std::vector<std::string> problems;
    if (!file.is_object() || !file.contains("traceEvents") || !file.at("traceEvents").is_array())
        return {"no list traceEvents"};
    std::map<std::string, std::pair<int, int>> flows, operations;
    std::map<std::pair<json, json>, std::vector<std::pair<double, double>>> slices;
    for (const auto& x : file.at("traceEvents"))
        if (x.is_object() && x.value("ph", "") == "X")
            slices[{x.value("pid", json{}), x.value("tid", json{})}].emplace_back(
                x.value("ts", 0.0), x.value("ts", 0.0) + x.value("dur", 0.0));
    std::size_t number = 0;
    for (const auto& x : file.at("traceEvents")) {
        const auto where = "event " + std::to_string(number++);
        if (!x.contains("ph") || !x.contains("pid") || !x.contains("name")) {
            problems.push_back(where + " lacks ph, pid or name");
            continue;
        }
        const auto phase = x.at("ph").get<std::string>();
        if (phase != "M" && (!x.contains("ts") || !x.at("ts").is_number() || x.at("ts") < 0))
            problems.push_back(where + " has no time");
        if (phase == "X" && (!x.contains("dur") || x.at("dur") < 0))
            problems.push_back(where + " is a slice without a length");
        if (phase == "s" || phase == "f" || phase == "b" || phase == "e") {
            if (!x.contains("id") || !x.contains("cat")) {
                problems.push_back(where + " lacks id or cat");
                continue;
            }
            auto& pair = (phase == "s" || phase == "f" ? flows : operations)[x.at("id").dump()];
            ++(phase == "s" || phase == "b" ? pair.first : pair.second);
            const auto thread = std::pair{x.at("pid"), x.value("tid", json{})};
            const auto& track = slices[thread];
            const auto time = x.value("ts", 0.0);
            if ((phase == "s" || phase == "f")
                && std::none_of(track.begin(), track.end(), [time](const auto& slice) {
                       return slice.first <= time && time <= slice.second;
                   }))
                problems.push_back(where + " is an arrow's end outside of any slice");
        } else if (phase != "M" && phase != "X" && phase != "C") {
            problems.push_back(where + " has the unknown phase " + phase);
        }
    }
    for (const auto& [id, pair] : flows)
        if (pair != std::pair{1, 1})
            problems.push_back("flow " + id + " has " + std::to_string(pair.first) + " starts and "
                               + std::to_string(pair.second) + " ends");
    for (const auto& [id, pair] : operations)
        if (pair.first != 1 || pair.second > 1)
            problems.push_back("operation " + id + " has " + std::to_string(pair.first)
                               + " beginnings and " + std::to_string(pair.second) + " ends");
    return problems;
}

} // namespace kvferry::tracing
