// SPDX-License-Identifier: Apache-2.0
// Every event in every state of a link has an answer that stands here: a state, its events, and
// what the link then does. A pair without a row fails.
#include "tests/actors/decisions/links/handshake_table.hpp"

#include <doctest/doctest.h>

#include <set>
#include <sstream>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr const char* table = R"(
idle, dials
    make endpoint, dial host link
        started
    -
        endpoint made|endpoint made with keys|endpoint denied|endpoint broken|endpoint left
        host link made|host link ended|host link replaced|device answered|looked|stirred
        heard an acceptance|regions shown
    lost, sessions told, proof, end
        process ended|heard a goodbye
    lost, sessions told, end
        told to say goodbye|told to close|heard that the link is refused
        heard that a session is refused|broken
    exit
        told to exit
    lost, sessions told, end, hand back
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
idle, accepts
    expect, make endpoint with keys, expect host link
        started
    -
        endpoint made|endpoint made with keys|endpoint denied|endpoint broken|endpoint left
        host link made|host link ended|host link replaced|device answered|looked|stirred
        heard an acceptance|regions shown
    lost, sessions told, proof, end
        process ended|heard a goodbye
    lost, sessions told, end
        told to say goodbye|told to close|heard that the link is refused
        heard that a session is refused|broken
    exit
        told to exit
    lost, sessions told, end, hand back
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
opening
    -
        started|endpoint broken|endpoint left|host link made|device answered|stirred|told to exit
        heard an acceptance|regions shown
    show mappings, say register_rank_info
        endpoint made
    close endpoint, make endpoint
        endpoint made with keys
    lost, sessions told, end
        endpoint denied
    lost, sessions told
        host link ended|host link replaced|looked|told to say goodbye|told to close
        heard that the link is refused|heard that a session is refused|broken
    lost, sessions told, proof
        process ended|heard a goodbye
    expect
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
opening, told to exit
    -
        started|endpoint broken|endpoint left|host link made|device answered|stirred|told to exit
        heard an acceptance|regions shown
    cut endpoint, exit
        endpoint made|endpoint made with keys
    lost, sessions told, exit
        endpoint denied
    lost, sessions told
        host link ended|host link replaced|looked|told to say goodbye|told to close
        heard that the link is refused|heard that a session is refused|broken
    lost, sessions told, proof
        process ended|heard a goodbye
    expect
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
waits for the host link
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|device answered
        stirred|heard an acceptance|regions shown
    lost, sessions told
        endpoint broken
    show mappings, say register_rank_info
        host link made
    say register_rank_info
        host link ended|host link replaced
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    lost, sessions told, cut endpoint
        looked|heard that the link is refused|heard that a session is refused|broken
    lost, sessions told, leave endpoint
        told to say goodbye
    lost, sessions told, cut endpoint, end
        told to close
    exit
        told to exit
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
    expect, show regions
        introduced|introduced again
introduced
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        device answered|stirred|heard an acceptance|regions shown
    lost, sessions told, end
        endpoint broken
    lost, sessions told, cut endpoint, end
        host link ended|host link replaced|looked|told to close|heard that the link is refused
        heard that a session is refused|broken
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    lost, sessions told, leave endpoint
        told to say goodbye
    exit
        told to exit
    expect, say link_health, come up
        accepted
    expect, lost, sessions told, cut endpoint, end
        refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
    expect, show regions, ask devices
        introduced|introduced again
accepted ahead
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        device answered|stirred|heard an acceptance|regions shown
    lost, sessions told, end
        endpoint broken
    lost, sessions told, cut endpoint, end
        host link ended|host link replaced|looked|told to close|heard that the link is refused
        heard that a session is refused|broken
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    lost, sessions told, leave endpoint
        told to say goodbye
    exit
        told to exit
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
    expect, show regions, ask devices
        introduced|introduced again
speaks early, opening
    -
        started|endpoint broken|endpoint left|host link made|host link ended|host link replaced
        device answered|stirred|told to exit|heard an acceptance|regions shown
    say register_rank_info, speak early
        endpoint made
    close endpoint, make endpoint
        endpoint made with keys
    lost, sessions told, end
        endpoint denied
    lost, sessions told, proof
        process ended|heard a goodbye
    lost, sessions told
        looked|told to say goodbye|told to close|heard that the link is refused
        heard that a session is refused|broken
    expect
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
speaks early
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        host link ended|host link replaced|device answered|stirred|heard an acceptance
        regions shown
    lost, sessions told, end
        endpoint broken
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    say refused, lost, sessions told, leave endpoint
        looked|told to close|broken
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    exit
        told to exit
    expect, show regions, say rank_registered
        introduced|introduced again
    expect, say link_health, come up
        accepted
    expect, lost, sessions told, cut endpoint, end
        refused
    ignore as early
        heard a request|heard a question|heard an offer
    lost, sessions told, cut endpoint, end
        heard that the link is refused|heard that a session is refused
    ignore as unexpected
        heard a question to a server
speaks early, accepted ahead
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        host link ended|host link replaced|device answered|stirred|heard an acceptance
        regions shown
    lost, sessions told, end
        endpoint broken
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    say refused, lost, sessions told, leave endpoint
        looked|told to close|broken
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    exit
        told to exit
    expect, show regions, say rank_registered, come up
        introduced|introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    lost, sessions told, cut endpoint, end
        heard that the link is refused|heard that a session is refused
    ignore as unexpected
        heard a question to a server
accepts, maps
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        stirred|heard an acceptance|regions shown
    lost, sessions told, make endpoint
        endpoint broken
    lost, sessions told, cut endpoint, end
        host link ended|host link replaced|heard that the link is refused
        heard that a session is refused
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    say rank_registered
        device answered
    say refused, lost, sessions told, leave endpoint
        looked|told to say goodbye|told to close|broken
    exit
        told to exit
    ignore as duplicate
        introduced
    lost, sessions told, cut endpoint, end, hand back
        introduced again
    enqueue
        accepted|refused
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
accepts, answered
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        device answered|stirred|heard an acceptance|regions shown
    lost, sessions told, make endpoint
        endpoint broken
    lost, sessions told, cut endpoint, end
        host link ended|host link replaced
    lost, sessions told, cut endpoint, proof, end
        process ended
    say refused, lost, sessions told, leave endpoint
        looked|told to close|broken
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    exit
        told to exit
    ignore as duplicate
        introduced
    lost, sessions told, cut endpoint, end, hand back
        introduced again
    enqueue
        accepted|refused
    come up with an offer, hand on
        heard a request|heard that a session is refused
    come up with an offer, say link_health
        heard a question
    come up with an offer, ignore as duplicate
        heard an offer
    come up with an offer, lost, sessions told, cut endpoint, proof, end
        heard a goodbye
    come up with an offer, lost, sessions told, cut endpoint
        heard that the link is refused
    come up with an offer, ignore as unexpected
        heard a question to a server
both dial, opening
    -
        started|endpoint broken|endpoint left|host link made|host link ended|host link replaced
        device answered|stirred|told to exit|heard an acceptance|regions shown
    close endpoint, make endpoint with keys
        endpoint made
    lost, sessions told, end
        endpoint denied
    lost, sessions told, proof
        process ended|heard a goodbye
    lost, sessions told
        looked|told to say goodbye|told to close|heard that the link is refused
        heard that a session is refused|broken
    ignore as duplicate
        introduced
    lost, sessions told, hand back
        introduced again
    ignore as early
        heard a request|heard a question|heard an offer
    ignore as unexpected
        heard a question to a server
    enqueue
        accepted|refused
    say register_rank_info, say rank_registered
        endpoint made with keys
both dial, answered
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        host link ended|host link replaced|device answered|stirred|heard an acceptance
        regions shown
    lost, sessions told, make endpoint
        endpoint broken
    lost, sessions told, cut endpoint, proof, end
        process ended
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    say refused, lost, sessions told, leave endpoint
        told to close|broken|looked
    exit
        told to exit
    ignore as duplicate
        introduced
    lost, sessions told, cut endpoint, end, hand back
        introduced again
    expect, come up
        accepted
    expect, lost, sessions told, cut endpoint, end
        refused
    come up, hand on
        heard a request|heard that a session is refused
    come up, say link_health
        heard a question
    come up, ignore as duplicate
        heard an offer
    come up, lost, sessions told, cut endpoint, proof, end
        heard a goodbye
    come up, lost, sessions told, cut endpoint, end
        heard that the link is refused
    come up, ignore as unexpected
        heard a question to a server
up, dialled
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        host link ended|host link replaced|device answered|stirred|heard an acceptance
        regions shown
    lost, sessions told, end
        endpoint broken
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    say link_health
        looked|heard a question
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    say refused, lost, sessions told, leave endpoint
        told to close|broken
    exit
        told to exit
    lost, sessions told, cut endpoint, end, hand back
        introduced|introduced again
    enqueue
        accepted|refused
    hand on
        heard a request|heard that a session is refused
    show regions, renew view
        heard an offer
    lost, sessions told, cut endpoint, end
        heard that the link is refused
    ignore as unexpected
        heard a question to a server
up, accepted, watches
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        device answered|stirred|heard an acceptance|regions shown
    lost, sessions told
        endpoint broken
    lost, sessions told, cut endpoint
        host link ended|host link replaced|heard that the link is refused
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    say link_health
        looked|heard a question
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    say refused, lost, sessions told, leave endpoint
        told to close|broken
    exit
        told to exit
    ignore as duplicate
        introduced|heard an offer
    lost, sessions told, cut endpoint, hand back
        introduced again
    enqueue
        accepted|refused
    hand on
        heard a request|heard that a session is refused
    ignore as unexpected
        heard a question to a server
up, maps
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint left|host link made
        stirred|heard an acceptance|regions shown
    lost, sessions told
        endpoint broken
    lost, sessions told, cut endpoint
        host link ended|host link replaced|heard that the link is refused
    lost, sessions told, cut endpoint, proof, end
        process ended|heard a goodbye
    renew view
        device answered
    say link_health
        looked|heard a question
    say termination, lost, sessions told, leave endpoint
        told to say goodbye
    say refused, lost, sessions told, leave endpoint
        told to close|broken
    exit
        told to exit
    lost, sessions told, cut endpoint, hand back
        introduced|introduced again
    enqueue
        accepted|refused
    hand on
        heard a request|heard that a session is refused
    ignore as duplicate
        heard an offer
    ignore as unexpected
        heard a question to a server
leaving
    -
        started|endpoint made|endpoint made with keys|endpoint denied|host link made
        host link ended|host link replaced|device answered|stirred|told to say goodbye
        told to close|broken|regions shown
    end
        endpoint broken|endpoint left
    proof
        process ended
    cut endpoint, end
        looked
    exit
        told to exit
    hand back
        introduced|introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, opening
    -
        started|endpoint broken|endpoint left|host link made|host link ended|host link replaced
        device answered|looked|stirred|told to say goodbye|told to close|told to exit|broken
        regions shown
    cut endpoint, end
        endpoint made|endpoint made with keys
    end
        endpoint denied
    proof
        process ended
    hand back
        introduced|introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, opening, told to exit
    -
        started|endpoint broken|endpoint left|host link made|host link ended|host link replaced
        device answered|looked|stirred|told to say goodbye|told to close|told to exit|broken
        regions shown
    cut endpoint, exit
        endpoint made|endpoint made with keys
    exit
        endpoint denied
    proof
        process ended
    hand back
        introduced|introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, owes a refusal
    -
        started|endpoint broken|endpoint left|host link made|host link ended|host link replaced
        device answered|looked|stirred|told to say goodbye|told to close|told to exit|broken
        regions shown
    say refused, leave endpoint
        endpoint made|endpoint made with keys
    end
        endpoint denied
    proof
        process ended
    ignore as duplicate
        introduced
    hand back
        introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, refuses
    -
        started|endpoint made|endpoint made with keys|endpoint denied|host link made
        host link ended|host link replaced|device answered|stirred|told to say goodbye
        told to close|broken|regions shown
    end
        endpoint left
    make endpoint
        endpoint broken
    proof
        process ended
    cut endpoint, end
        looked
    exit
        told to exit
    ignore as duplicate
        introduced
    hand back
        introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, host link undecided
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint broken|endpoint left
        device answered|looked|stirred|broken|regions shown
    end
        host link made|host link ended|host link replaced|told to say goodbye|told to close
    proof, end
        process ended
    exit
        told to exit
    hand back
        introduced|introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
lost, watches
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint broken|endpoint left
        host link made|host link ended|device answered|looked|stirred|told to close|broken
        regions shown
    end
        host link replaced|told to say goodbye
    proof, end
        process ended
    exit
        told to exit
    ignore as duplicate
        introduced
    hand back
        introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
ended
    -
        started|endpoint made|endpoint made with keys|endpoint denied|endpoint broken|endpoint left
        host link made|host link ended|host link replaced|process ended|device answered|looked
        stirred|told to say goodbye|told to close|broken|regions shown
    exit
        told to exit
    hand back
        introduced|introduced again
    ignore as late
        accepted|refused|heard a request|heard an acceptance|heard a question|heard an offer
        heard a goodbye|heard that the link is refused|heard that a session is refused
        heard a question to a server
)";

/// Answers by state and event.
std::map<std::string, std::map<std::string, std::string>> rows() {
    std::map<std::string, std::map<std::string, std::string>> result;
    std::istringstream lines{table};
    std::string state, answer;
    for (std::string line; std::getline(lines, line);) {
        if (line.empty())
            continue;
        if (line[0] != ' ') {
            state = line;
        } else if (line[4] != ' ') {
            answer = line.substr(4);
        } else {
            std::istringstream events{line.substr(8)};
            for (std::string event; std::getline(events, event, '|');)
                result[state][event] = answer;
        }
    }
    return result;
}

} // namespace

TEST_CASE("handshake: every event in every state has its answer") {
    auto answers = rows();
    for (const auto& [state, make] : table_states()) {
        for (const auto& [name, event] : table_of_events()) {
            auto link = make();
            const auto answer =
                named(link.on(handshake::event{event}, table_begins + std::chrono::hours{1}));
            CAPTURE(state);
            CAPTURE(name);
            const auto row = answers[state].extract(name);
            CHECK_MESSAGE(row, "this pair has no row; it answers: ", answer);
            if (row)
                CHECK(row.mapped() == answer);
        }
        CHECK_MESSAGE(answers[state].empty(), "rows of events that do not exist, in: ", state);
        answers.erase(state);
    }
    CHECK_MESSAGE(answers.empty(), "rows of states that do not exist");
}

TEST_CASE("handshake: the table has every kind of event") {
    std::set<std::size_t> kinds;
    for (const auto& [name, event] : table_of_events())
        kinds.insert(event.index());
    CHECK(kinds.size() == std::variant_size_v<handshake::event>);
}
