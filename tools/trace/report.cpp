// SPDX-License-Identifier: Apache-2.0
// Columns and keys.
#include "tools/trace/report.hpp"

#include "tools/trace/pictures/pictures.hpp"

#include <algorithm>
#include <cstdio>

namespace kvferry::tracing {

namespace {

using nlohmann::json;

json json_of(const spread& x) {
    return {{"p50_ns", x.p50_ns}, {"p99_ns", x.p99_ns}, {"max_ns", x.max_ns}};
}

const char* name_of(trace::instant x) {
    constexpr const char* names[] = {"sent",          "dequeued",    "done",        "asked",
                                     "answered",      "io_begin",    "io_end",      "wire_sent",
                                     "wire_received", "actor_ended", "joined_trace"};
    static_assert(std::size(names) == trace::instant_count);
    return names[static_cast<std::size_t>(x)];
}

} // namespace

std::string text_of(const run_statistics& x, std::size_t slowest) {
    char line[256];
    std::snprintf(line, sizeof line,
                  "%llu events in %s; %llu lost; %zu requests, %llu joined across ranks, "
                  "%llu explained to 98 %%\n\n",
                  static_cast<unsigned long long>(x.events), duration_text(x.duration_ns).c_str(),
                  static_cast<unsigned long long>(x.lost_events), x.requests.size(),
                  static_cast<unsigned long long>(x.joined()),
                  static_cast<unsigned long long>(x.explained));
    std::string out = line;
    std::snprintf(line, sizeof line, "%-18s %-28s %8s | %-32s | %-32s %12s\n", "actor", "message",
                  "count", "mailbox wait: p50, p99, max", "work: p50, p99, max", "bytes");
    out += line;
    for (const auto& row : x.messages) {
        const auto spread_text = [](const spread& y) {
            return duration_text(y.p50_ns) + ", " + duration_text(y.p99_ns) + ", "
                   + duration_text(y.max_ns);
        };
        std::snprintf(line, sizeof line, "%-18s %-28s %8llu | %-32s | %-32s %12llu\n",
                      row.actor.c_str(), row.message.c_str(),
                      static_cast<unsigned long long>(row.count),
                      spread_text(row.mailbox_wait).c_str(), spread_text(row.work).c_str(),
                      static_cast<unsigned long long>(row.bytes));
        out += line;
    }
    out += "\nslowest requests, with the way to their outcome:\n";
    for (std::size_t i = 0; i < std::min(slowest, x.requests.size()); ++i) {
        const auto& request = x.requests[i];
        out += "  rid " + std::to_string(request.rid) + "  " + duration_text(request.total_ns)
               + ", " + std::to_string(request.bytes) + " bytes"
               + (request.joined ? "" : ", not joined") + "\n";
        for (const auto& stage : request.stages) {
            std::snprintf(line, sizeof line, "      %-40s %12s\n", stage.name.c_str(),
                          duration_text(stage.ns).c_str());
            out += line;
        }
    }
    return out;
}

json json_of(const run_statistics& x, std::size_t slowest) {
    json messages = json::array();
    for (const auto& row : x.messages)
        messages.push_back({{"actor", row.actor},
                            {"message", row.message},
                            {"count", row.count},
                            {"mailbox_wait", json_of(row.mailbox_wait)},
                            {"work", json_of(row.work)},
                            {"bytes", row.bytes}});
    json requests = json::array();
    for (std::size_t i = 0; i < std::min(slowest, x.requests.size()); ++i) {
        const auto& request = x.requests[i];
        json stages = json::array();
        for (const auto& stage : request.stages)
            stages.push_back({{"name", stage.name}, {"ns", stage.ns}});
        requests.push_back({{"rid", request.rid},
                            {"total_ns", request.total_ns},
                            {"unexplained_ns", request.unexplained_ns},
                            {"bytes", request.bytes},
                            {"joined", request.joined},
                            {"stages", std::move(stages)}});
    }
    return {{"events", x.events},
            {"lost_events", x.lost_events},
            {"duration_ns", x.duration_ns},
            {"requests", x.requests.size()},
            {"requests_joined", x.joined()},
            {"stages_sum_error", x.sum_error},
            {"requests_explained", x.explained},
            {"messages", std::move(messages)},
            {"slowest", std::move(requests)}};
}

std::string text_of(const check_result& x) {
    std::string out;
    for (const auto& finding : x.findings)
        out += finding.kind + ": " + finding.text
               + (finding.rid ? " (rid " + std::to_string(finding.rid) + ")" : "") + "\n";
    if (x.lost_events > 0)
        out += std::to_string(x.lost_events)
               + " events were overwritten before they were recorded: what is "
                 "reported as missing may be among them\n";
    if (x.cut > 0)
        out +=
            std::to_string(x.cut)
            + " requests were under way when a recording began or ended: what is missing of them "
              "does not count\n";
    out += std::to_string(x.messages) + " messages, " + std::to_string(x.accounted)
           + " of them to actors that had ended; " + std::to_string(x.context_sessions)
           + " context and " + std::to_string(x.generation_sessions)
           + " generation sessions ended; "
           + (x.ok() ? "nothing is wrong in what was recorded"
                     : std::to_string(x.findings.size()) + " findings")
           + "\n";
    return out;
}

json json_of(const check_result& x) {
    json findings = json::array();
    for (const auto& finding : x.findings)
        findings.push_back({{"kind", finding.kind}, {"text", finding.text}, {"rid", finding.rid}});
    return {{"ok", x.ok()},
            {"findings", std::move(findings)},
            {"messages", x.messages},
            {"accounted", x.accounted},
            {"requests_cut", x.cut},
            {"context_sessions", x.context_sessions},
            {"generation_sessions", x.generation_sessions},
            {"lost_events", x.lost_events}};
}

std::string text_of_run(const flow& x, const std::vector<std::string>& problems) {
    std::string out;
    for (std::size_t i = 0; i < x.recordings.size(); ++i) {
        const auto& file = x.recordings[i];
        out += file.path + ": " + file.program + ", process " + std::to_string(file.process_id)
               + (file.version.empty() ? "" : ", kvferry " + file.version) + ", "
               + std::to_string(file.event_count) + " events, " + std::to_string(file.lost())
               + " lost, clock "
               + (x.offsets_ns[i] ? "moved by " + duration_text(x.offsets_ns[i]) : "as it is")
               + ", " + (file.ended.empty() ? "end missing" : file.ended) + "\n";
    }
    for (const auto& problem : problems)
        out += "! " + problem + "\n";
    return out;
}

json json_of(const flow& from, const step& x) {
    json result{{"time_ns", x.time_ns},
                {"what", name_of(x.what)},
                {"rank", from.lanes[x.lane].rank},
                {"actor", std::string{x.actor}},
                {"actor_id", x.actor_id},
                {"message", std::string{x.message}},
                {"rid", x.rid},
                {"attempt", x.attempt},
                {"number", x.number}};
    result["cause"] = x.cause == no_step ? json{} : json(x.cause);
    return result;
}

} // namespace kvferry::tracing
