// SPDX-License-Identifier: Apache-2.0
// What happens in one simulation, as plain values: which ranks exist, who wants what when, and what
// goes wrong. Drawn from a seed, or written by hand under a name.
#pragma once

#include "actors/context/route.hpp"
#include "messages/values/aux_record.hpp"
#include "tests/harness/network/sim_network.hpp"
#include "tests/harness/tiny_model.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry::harness {

using std::chrono::microseconds;

/// The event from which the time of a cancel or a fault counts.
enum class since : std::uint8_t { begin, first_frame, first_request, first_write };

/// A host's cancel, at a time of its own.
struct planned_cancel {
    side who = side::generation;
    std::uint32_t rank = 0;
    microseconds at{0};
    since from = since::begin;
};

/// What a recorded host did: the next one of its kind.
struct recorded_step {
    enum class deed : std::uint8_t { open, hand_over, send_aux, cancel };
    side role = side::context;
    std::uint32_t rank = 0;
    deed what = deed::open;
    /// So many frames of the request had arrived before, anywhere.
    std::uint32_t after_frames = 0;
};

/// One request, as the hosts of both instances carry it out.
struct planned_request {
    std::uint64_t request = 1;
    /// From the generation instance to the context instance, as after a change of roles. What is
    /// said here of the context and generation sides is about senders and receivers.
    bool back = false;
    side instance_of(side role) const {
        if (!back)
            return role;
        return role == side::context ? side::generation : side::context;
    }
    /// Number of the content. When two requests share a rid, either content may arrive, but not a
    /// mix.
    std::uint64_t content = 1;
    std::uint64_t other_content = 0;
    aux_mode aux = aux_mode::none;
    /// Blocks of each send(slice) and of each receive(slice); both sums are the prompt.
    std::vector<std::uint32_t> send_blocks{2};
    std::vector<std::uint32_t> receive_blocks{2};
    /// When the sides open their sessions; ranks follow within 200 us.
    microseconds context_opens{0};
    microseconds generation_opens{0};
    /// From the opening of a receiving session to its first receive(slice).
    microseconds receives_after{0};
    /// Between two slices, and before the aux record.
    microseconds between_pieces{50};
    microseconds context_deadline{100'000};
    microseconds generation_deadline{100'000};
    std::vector<planned_cancel> cancels;
    /// With attention DP on the context side: the rank that runs the request. Receivers are not
    /// told.
    std::optional<std::uint32_t> context_group;
    /// absent: the context side never opens the session. stalls: it never sends its last slice.
    bool context_absent = false;
    bool context_stalls = false;
    /// One generation rank opens so much later than the others.
    std::optional<std::uint32_t> late_rank;
    microseconds late_by{0};
    /// One context rank never sends its last slice.
    std::optional<std::uint32_t> stalling_rank;
    /// The host sends one more slice after the last one.
    bool sends_too_much = false;
    /// The generation side wants aux, and the context side opens without it.
    bool aux_mismatch = false;
    /// The generation hosts lend so many slots at once that no message can name them.
    bool too_long = false;
    /// The request may fail without a fault: its deadline is tight, or its rid is in use.
    bool may_fail = false;
    /// Not empty: the hosts do this in this order and nothing else, whatever is said above of times
    /// and cancels.
    std::vector<recorded_step> recorded;
    /// It succeeds on both sides in spite of the scenario's faults.
    bool must_succeed = false;

    bool plain() const {
        return cancels.empty() && !context_absent && !context_stalls && !stalling_rank
               && !sends_too_much && !aux_mismatch && !too_long && !may_fail;
    }
};

enum class fault_kind : std::uint8_t {
    /// The process ends, as by SIGKILL.
    crash,
    /// The whole instance ends, and another one takes its place after `lasts`.
    restart,
    /// SIGSTOP for `lasts`, then SIGCONT.
    freeze,
    /// Nothing passes between `who` and `other` for `lasts`.
    cut,
    /// The connection between `who` and `other` breaks.
    reset,
    /// Everything that the process does takes a hundred times as long, for `lasts`.
    slow,
    /// An old frame arrives once more.
    replay,
    /// One actor of the process dies; `actor` names its kind.
    actor_dies,
    /// Only this process ends, and another one takes its place after `lasts`.
    restart_one,
    /// Nothing passes between `who` and `other` for `lasts`, and each end gives the connection up
    /// by itself.
    silence,
    /// From now on copies of `who` into peers' memory end in doubt. They land when everything else
    /// is over, as a device's launch may, unless the process has died.
    undecided,
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
    /// Each TP rank holds all heads and serves requests of its own.
    bool attention_dp = false;
    std::uint32_t ranks() const { return tp * pp; }
};

struct scenario {
    std::string name = "seed";
    std::uint64_t seed = 0;
    instance_shape context;
    instance_shape generation;
    /// Both instances are on one machine, so pools are mapped; otherwise bytes go over the fabric.
    bool same_host = true;
    /// With `same_host`: ranks that are on machines of their own all the same.
    std::vector<place> elsewhere;
    /// With `same_host`: the two instances are on a machine each, and ranks of one that need the
    /// same bytes share one copy.
    bool one_copy = false;
    /// tiny_model::latent.
    bool latent = false;
    route_choice route = route_choice::automatic;
    /// Small copies run on the protocol's thread.
    bool inline_copies = true;
    std::uint32_t slots_per_rank = 10;
    std::uint32_t sessions_max = 64;
    std::uint32_t early_requests_max = 64;
    microseconds early_request_lease{120'000};
    /// Longer than all that happens here, unless silent peers are the subject.
    std::chrono::milliseconds link_health_interval{1000};
    std::chrono::milliseconds link_patience{5000};
    /// On every context rank, this many registrations fail before one succeeds.
    int failing_registrations = 0;
    network_temper network;
    /// Receivers compare digests of what lies in memory (limits::digests); otherwise only messages are
    /// compared.
    bool digests = false;
    /// Mapped copies of which a bit flips in the receiver's memory.
    unsigned copies_flipped_percent = 0;
    /// After this time, or after the last fault, the network loses and delays nothing.
    microseconds unkind_for{0};
    std::vector<planned_request> requests;
    std::vector<planned_fault> faults;

    bool is_elsewhere(place x) const {
        return !same_host || std::any_of(elsewhere.begin(), elsewhere.end(), [x](place other) {
            return other.instance == x.instance && other.rank == x.rank;
        });
    }

    tiny_model model() const {
        tiny_model result;
        result.latent = latent;
        return result;
    }

    const instance_shape& shape_of(side instance) const {
        return instance == side::context ? context : generation;
    }
    std::uint32_t receivers_of(const planned_request& wanted) const {
        return shape_of(wanted.instance_of(side::generation)).ranks();
    }

    /// Ranks may speak the protocol's former version.
    bool mixed_protocols = true;
    std::chrono::milliseconds session_keep_interval{3};

    bool is_recorded() const {
        return std::any_of(requests.begin(), requests.end(),
                           [](const planned_request& x) { return !x.recorded.empty(); });
    }

    bool calm() const { return faults.empty() && network.lost_completion_percent == 0; }
};

/// The scenario of a seed.
scenario scenario_of(std::uint64_t seed);

/// Adds one request and events that must coincide with it, drawn from a few situations.
void set_trap(random_source&, scenario&);

/// From now on most seeds of this process meet that situation; empty: as the seeds have it. For
/// mistakes that few seeds would find.
void steer_towards(std::string_view trap);
bool is_steered();

/// A scenario with a name; the seed decides the order of its events.
struct named_scenario {
    std::string_view name;
    std::string_view what;
    std::function<scenario(std::uint64_t seed)> make;
};
const std::vector<named_scenario>& named_scenarios();

std::string_view name_of(fault_kind);

} // namespace kvferry::harness
