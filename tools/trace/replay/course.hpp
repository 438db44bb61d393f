// SPDX-License-Identifier: Apache-2.0
// The course of a request: which messages went between which of its parties, and how each of them
// ended. Messages count that were sent before whoever they are for had its outcome, until any of
// the parties failed: what comes behind clears up, in any order. Times, addresses and the names of
// instances are no part of it. Pure.
#pragma once

#include "tools/trace/flow.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace kvferry::tracing {

/// A rank of one of a request's two instances.
struct party {
    bool receives = false;
    std::uint32_t rank = 0;

    friend auto operator<=>(const party&, const party&) = default;
};

/// What a host did, or a message that arrived, in the order of the run.
struct course_event {
    enum class kind { open, hand_over, send_aux, cancel, frame };
    kind what = kind::frame;
    party who;
    std::size_t step = no_step;
};

struct course {
    /// From whom to whom, sorted: reports may travel with the bytes, over a connection of their
    /// own. Requests that were only repeated are there once.
    std::map<std::pair<party, party>, std::vector<std::string>> messages;
    /// "KV_TRANSFERRED", "ERROR: deadline_exceeded".
    std::map<party, std::string> ends;
    /// The same parties, by time.
    std::vector<party> ended;
    std::vector<course_event> events;
    /// The rank's name in the run: "prefill-3/0".
    std::map<party, std::string> names;
};

std::map<std::uint64_t, course> courses_of(const flow&);

/// Every difference as a line: requests of `first` alone, which may be a part of the other run.
std::vector<std::string> course_differences(const flow& first, const flow& second);

} // namespace kvferry::tracing
