// SPDX-License-Identifier: Apache-2.0
// Collects the sessions, gives each span its parent, and cuts the list into bodies.
#include "tools/trace/otlp/otlp.hpp"

#include "messages/values/mixed.hpp"
#include "messages/version.hpp"
#include "tools/common/text.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace kvferry::tracing {

namespace {

using nlohmann::json;
using trace::instant;

json attribute(const char* key, const std::string& value) {
    return {{"key", key}, {"value", {{"stringValue", value}}}};
}

/// 64-bit integers are strings in OTLP's JSON.
json attribute(const char* key, std::uint64_t value) {
    return {{"key", key}, {"value", {{"intValue", std::to_string(value)}}}};
}

/// A session of one request on one rank.
struct session {
    std::size_t first = no_step;
    std::size_t last = no_step;
    bool generation = false;
    std::uint64_t attempt = 0;
    std::vector<std::size_t> operations = {};
    std::uint64_t id = 0;
};

using session_key = std::pair<std::size_t, std::string>; // process and rank

struct request {
    std::map<session_key, session> sessions = {};
};

std::map<std::uint64_t, request> requests_of(const flow& from) {
    std::map<std::uint64_t, request> result;
    for (std::size_t i = 0; i < from.steps.size(); ++i) {
        const auto& x = from.steps[i];
        const auto& where = from.lanes[x.lane];
        if (x.rid == 0 || where.rank.empty())
            continue;
        auto& mine = result[x.rid].sessions[{x.process, where.rank}];
        if (mine.first == no_step)
            mine.first = i;
        mine.last = i;
        mine.generation = mine.generation || where.actor == "rx_session";
        if (mine.attempt == 0)
            mine.attempt = x.attempt;
        if (x.what == instant::io_begin && x.effect != no_step)
            mine.operations.push_back(i);
    }
    return result;
}

class exporter {
public:
    explicit exporter(const flow& from) : from_(from) {
        for (const auto& recording : from.recordings)
            for (const auto& x : recording.joined)
                parents_.try_emplace(x.rid, x.parent);
        if (!from.recordings.empty())
            began_at_ = from.recordings.front().clock_began_at_ns + from.start_ns;
    }

    std::vector<json> take() {
        for (auto& [rid, x] : requests_of(from_))
            add(rid, x);
        flush();
        return std::move(bodies_);
    }

private:
    void add(std::uint64_t rid, request& x) {
        const auto found = parents_.find(rid);
        const auto parent = found == parents_.end() ? std::optional<trace_parent>{} : found->second;
        const auto seed = mixed(static_cast<std::uint64_t>(began_at_), rid);
        const auto trace =
            parent ? demo::hex_text(parent->trace_high) + demo::hex_text(parent->trace_low)
                   : demo::hex_text(seed) + demo::hex_text(mixed(seed, 1));
        std::uint64_t number = 1;
        std::uint64_t generation = 0;
        for (auto& [key, session] : x.sessions) {
            session.id = mixed(seed, ++number);
            if (session.generation && generation == 0)
                generation = session.id;
        }
        for (const auto& [key, session] : x.sessions) {
            const auto above =
                session.generation || generation == 0 ? (parent ? parent->span : 0) : generation;
            auto span = span_of(trace, session.id, above, session.first, session.last);
            span["name"] = session.generation ? "kvferry receive" : "kvferry send";
            span["kind"] = session.generation ? 3 : 2; // client asks, server answers
            // Ids are texts: OTLP's integers have a sign.
            span["attributes"] = {attribute("kvferry.rid", std::to_string(rid)),
                                  attribute("kvferry.attempt", std::to_string(session.attempt))};
            add(key, std::move(span));
            for (auto begin : session.operations) {
                const auto& step = from_.steps[begin];
                auto below =
                    span_of(trace, mixed(session.id, begin + 1), session.id, begin, step.effect);
                below["name"] = std::string{step.message};
                below["kind"] = 1;
                below["attributes"] = {attribute("kvferry.rid", std::to_string(rid)),
                                       attribute("kvferry.bytes", step.number)};
                add(key, std::move(below));
            }
        }
    }

    json span_of(const std::string& trace, std::uint64_t id, std::uint64_t parent,
                 std::size_t first, std::size_t last) const {
        json result{{"traceId", trace},
                    {"spanId", demo::hex_text(id)},
                    {"startTimeUnixNano", std::to_string(began_at_ + from_.steps[first].time_ns)},
                    {"endTimeUnixNano", std::to_string(began_at_ + from_.steps[last].time_ns)}};
        if (parent != 0)
            result["parentSpanId"] = demo::hex_text(parent);
        return result;
    }

    void add(const session_key& key, json span) {
        by_rank_[key].push_back(std::move(span));
        if (++waiting_ >= otlp_spans_max)
            flush();
    }

    void flush() {
        if (waiting_ == 0)
            return;
        json resources = json::array();
        for (auto& [key, spans] : by_rank_) {
            const auto& recording = from_.recordings[key.first];
            resources.push_back(
                {{"resource",
                  {{"attributes",
                    {attribute("service.name", std::string{"kvferry"}),
                     attribute("service.instance.id", key.second),
                     attribute("process.pid", std::uint64_t{recording.process_id})}}}},
                 {"scopeSpans",
                  {{{"scope", {{"name", "kvferry"}, {"version", recording.version}}},
                    {"spans", std::move(spans)}}}}});
        }
        bodies_.push_back({{"resourceSpans", std::move(resources)}});
        by_rank_.clear();
        waiting_ = 0;
    }

    const flow& from_;
    std::map<std::uint64_t, trace_parent> parents_;
    std::int64_t began_at_ = 0;
    std::map<session_key, std::vector<json>> by_rank_;
    std::size_t waiting_ = 0;
    std::vector<json> bodies_;
};

} // namespace

std::vector<json> otlp_of(const flow& from) {
    return exporter{from}.take();
}

} // namespace kvferry::tracing
