// SPDX-License-Identifier: Apache-2.0
// In OTLP's JSON ids are hexadecimal and 64-bit integers are texts.
#include "actors/spans/span_bodies.hpp"

#include "messages/version.hpp"

#include <nlohmann/json.hpp>

#include <cinttypes>
#include <cstdio>
#include <map>

namespace kvferry {

namespace {

using nlohmann::json;

std::string hex(std::uint64_t x) {
    char text[17];
    std::snprintf(text, sizeof text, "%016" PRIx64, x);
    return text;
}

json attribute(const char* key, const std::string& value) {
    return {{"key", key}, {"value", {{"stringValue", value}}}};
}

json attribute(const char* key, std::uint64_t value) {
    return {{"key", key}, {"value", {{"intValue", std::to_string(value)}}}};
}

json span_of(const session_span& x) {
    const bool receives = x.role == side::generation;
    json result{{"traceId", hex(x.trace_high) + hex(x.trace_low)},
                {"spanId", hex(x.id)},
                {"name", receives ? "kvferry receive" : "kvferry send"},
                {"kind", receives ? 3 : 2}, // client asks, server answers
                {"startTimeUnixNano", std::to_string(x.begin.count())},
                {"endTimeUnixNano", std::to_string(x.end.count())}};
    if (x.parent != 0)
        result["parentSpanId"] = hex(x.parent);
    // Ids are texts: OTLP's integers have a sign.
    auto& all = result["attributes"] = {attribute("kvferry.rid", std::to_string(x.rid)),
                                        attribute("kvferry.attempt", std::to_string(x.attempt)),
                                        attribute("kvferry.bytes", x.bytes)};
    if (x.waited.count() >= 0)
        all.push_back(
            attribute("kvferry.wait_for_peer_ns", static_cast<std::uint64_t>(x.waited.count())));
    if (x.reason != errc::none) {
        all.push_back(attribute("kvferry.errc", to_string(x.reason)));
        if (x.reason != errc::cancelled)
            result["status"] = {{"code", 2}, {"message", to_string(x.reason)}}; // error
    }
    return result;
}

} // namespace

std::string body_of(const std::vector<session_span>& spans, std::uint32_t process_id) {
    std::map<std::string, json> by_rank;
    for (const auto& x : spans) {
        auto& mine = by_rank[*x.rank];
        if (mine.is_null())
            mine = json::array();
        mine.push_back(span_of(x));
    }
    auto resources = json::array();
    for (auto& [rank, mine] : by_rank)
        resources.push_back({{"resource",
                              {{"attributes",
                                {attribute("service.name", std::string{"kvferry"}),
                                 attribute("service.instance.id", rank),
                                 attribute("process.pid", std::uint64_t{process_id})}}}},
                             {"scopeSpans",
                              {{{"scope", {{"name", "kvferry"}, {"version", version()}}},
                                {"spans", std::move(mine)}}}}});
    return json{{"resourceSpans", std::move(resources)}}.dump(-1, ' ', false,
                                                              json::error_handler_t::replace);
}

} // namespace kvferry
