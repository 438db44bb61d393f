// SPDX-License-Identifier: Apache-2.0
// What follows from the facts: what works, what is missing and how to fix it, and the routes. Pure.
#pragma once

#include "tools/doctor/facts.hpp"

#include <string>
#include <vector>

namespace kvferry::doctor {

enum class state : std::uint8_t {
    works,
    /// kvferry works without it, slower or in fewer cases.
    limited,
    /// kvferry does not work without it.
    missing,
};

struct finding {
    std::string name;
    state is = state::works;
    std::string text;
    /// How to fix it; empty when it works.
    std::string remedy;
};

/// How bytes get into one kind of memory of a peer.
struct route_finding {
    /// "host_shared", "host_private" or "cuda": the kind of the pool that is written.
    std::string memory;
    /// "this machine" or "another machine".
    std::string peer;
    /// "mapped", "direct" or "none".
    std::string route;
    std::string why;
};

struct report {
    std::vector<finding> findings;
    std::vector<route_finding> routes;

    /// True unless something is missing that kvferry needs.
    bool usable() const;
};

report judge(const machine_facts&);

/// One line each, for people; no colours.
std::string to_text(const report&);

/// {"usable":..., "findings":[...], "routes":[...]} on one line.
std::string to_json(const report&);

} // namespace kvferry::doctor
