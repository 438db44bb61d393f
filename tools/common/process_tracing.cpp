// SPDX-License-Identifier: Apache-2.0
// Starts both, and reports a failure on standard error.
#include "tools/common/process_tracing.hpp"

#include "tools/common/people.hpp"

#include <utility>

namespace kvferry::tools {

namespace {

template <class Part>
std::unique_ptr<Part> or_null(caf::expected<std::unique_ptr<Part>> made, const char* what) {
    if (made)
        return std::move(*made);
    people_errors() << "kvferry: no " << what << ": " << text_of(made.error()) << std::endl;
    return nullptr;
}

} // namespace

std::unique_ptr<flight_recorder> start_flight_recorder(const std::string& name,
                                                       flight_recorder::sigterm on_sigterm) {
    return or_null(flight_recorder::start(name, flight_recorder::folder(), on_sigterm),
                   "flight recorder");
}

std::unique_ptr<trace_endpoint> start_trace_endpoint(const std::string& name,
                                                     const std::vector<const worker*>& ranks) {
    std::vector<trace::rank_record> known;
    for (const auto* rank : ranks) {
        auto record = trace_rank(*rank);
        known.push_back(record ? std::move(*record) : trace::rank_record{name, {}, 0});
    }
    auto ask = [ranks, known](std::optional<rid> request) {
        std::vector<trace::session_record> all;
        for (std::size_t i = 0; i < ranks.size(); ++i) {
            auto part = trace_sessions(*ranks[i], known[i].rank, request);
            all.insert(all.end(), part.begin(), part.end());
        }
        return all;
    };
    return or_null(
        trace_endpoint::start(name, trace_endpoint::default_folder(), known, std::move(ask)),
        "socket for kvferry trace");
}

} // namespace kvferry::tools
