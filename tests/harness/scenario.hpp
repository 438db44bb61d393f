// SPDX-License-Identifier: Apache-2.0
// What happens in one simulation, as plain values: who is there, who wants what when, and what goes
// wrong. Drawn from a seed or written down by name.
#pragma once

#include "actors/context/route.hpp"
#include "messages/values/aux_record.hpp"
#include "tests/harness/sim_network.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::harness {

using std::chrono::microseconds;

/// What the time of a cancel or a fault counts from.
enum class since : std::uint8_t { begin, first_frame, first_request, first_write };

/// One host action that a request may contain at a time of its own.
struct planned_cancel {
    side who = side::generation;
    std::uint32_t rank = 0;
    microseconds at{0};
    since from = since::begin;
};

/// One request, as the hosts of both instances carry it out.
struct planned_request {
    std::uint64_t request = 1;
    /// Number of the content. Of two requests with one rid either may arrive, but only one of them.
    std::uint64_t content = 1;
    std::uint64_t other_content = 0;
    aux_mode aux = aux_mode::none;
    /// Blocks of each send(slice) and of each receive(slice); both sums are the prompt.
    std::vector<std::uint32_t> send_blocks{2};
    std::vector<std::uint32_t> receive_blocks{2};
    /// When the sides open their sessions; ranks follow within 200 us.
    microseconds context_opens{0};
    microseconds generation_opens{0};
    /// Between two slices, and before the aux record.
    microseconds between_pieces{50};
    microseconds context_deadline{100'000};
    microseconds generation_deadline{100'000};
    std::vector<planned_cancel> cancels;
    /// With attention DP on the context side: the rank that runs it. Receivers are not told.
    std::optional<std::uint32_t> context_group;
    /// The context side never opens the session, or never sends its last slice.
    bool context_absent = false;
    bool context_stalls = false;
    /// One context rank never sends its last slice.
    std::optional<std::uint32_t> stalling_rank;
    /// The host sends one more slice after the last one.
    bool sends_too_much = false;
    /// The context side opens without aux what the generation side wants with it.
    bool aux_mismatch = false;
    /// It may fail though nothing goes wrong: a deadline is tight, its rid is in use.
    bool may_fail = false;

    bool plain() const {
        return cancels.empty() && !context_absent && !context_stalls && !stalling_rank
               && !sends_too_much && !aux_mismatch && !may_fail;
    }
};

enum class fault_kind : std::uint8_t {
    /// The process ends, as by SIGKILL.
    crash,
    /// Its whole instance ends, and another one takes its place after `lasts`.
    restart,
    /// SIGSTOP for `lasts`, then SIGCONT.
    freeze,
    /// Nothing passes between `who` and `other` for `lasts`.
    cut,
    /// The connection between `who` and `other` breaks.
    reset,
    /// Everything that the process does takes a hundred times as long, for `lasts`.
    slow,
    /// A frame of before arrives once more.
    replay,
    /// One actor of the process dies: `actor` says of what kind.
    actor_dies,
    /// The process ends alone, and another one takes its place after `lasts`.
    restart_one,
};

/// A rank of one of the two instances.
struct place {
    side instance = side::context;
    std::uint32_t rank = 0;
};

struct planned_fault {
    fault_kind what = fault_kind::crash;
    place who;
    place other;
    microseconds at{0};
    microseconds lasts{0};
    since from = since::begin;
    std::string_view actor = {};
};

struct instance_shape {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    /// Each TP rank has all heads and requests of its own.
    bool attention_dp = false;
    std::uint32_t ranks() const { return tp * pp; }
};

struct scenario {
    std::string name = "seed";
    std::uint64_t seed = 0;
    instance_shape context;
    instance_shape generation;
    /// Both instances on one machine, so that pools are mapped; else bytes go over the fabric.
    bool same_host = true;
    route_choice route = route_choice::automatic;
    /// Small copies run where the protocol runs.
    bool inline_copies = true;
    std::uint32_t slots_per_rank = 10;
    std::uint32_t sessions_max = 64;
    std::uint32_t early_requests_max = 64;
    microseconds early_request_lease{120'000};
    /// Registrations that fail before one succeeds, on every context rank.
    int failing_registrations = 0;
    network_temper network;
    /// The network is kind again after that time, or after the last fault.
    microseconds unkind_for{0};
    std::vector<planned_request> requests;
    std::vector<planned_fault> faults;

    bool calm() const { return faults.empty() && network.lost_completion_percent == 0; }
};

/// The scenario of a seed.
scenario scenario_of(std::uint64_t seed);

/// Adds one request and what must coincide with it, drawn among a few situations.
void set_trap(random_source&, scenario&);

/// A scenario with a name; the seed decides the order of events in it.
struct named_scenario {
    std::string_view name;
    std::string_view what;
    std::function<scenario(std::uint64_t seed)> make;
};
const std::vector<named_scenario>& named_scenarios();

std::string_view name_of(fault_kind);

} // namespace kvferry::harness
