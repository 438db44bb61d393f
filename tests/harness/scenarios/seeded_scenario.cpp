// SPDX-License-Identifier: Apache-2.0
// Makes a scenario from a seed.
#include "tests/harness/scenarios/scenario.hpp"

#include <algorithm>
#include <array>

namespace kvferry::harness {

namespace {

std::vector<std::uint32_t> cut_into_slices(random_source& random, std::uint32_t blocks) {
    std::vector<std::uint32_t> result;
    while (blocks > 0) {
        auto next =
            static_cast<std::uint32_t>(random.percent(60) ? blocks : random.between(1, blocks));
        result.push_back(next);
        blocks -= next;
    }
    return result;
}

place any_place(random_source& random, const scenario& in, side instance) {
    auto ranks = (instance == side::context ? in.context : in.generation).ranks();
    return {instance, static_cast<std::uint32_t>(random.below(ranks))};
}

/// Bits flip only where somebody looks for them.
void draw_digests(random_source random, scenario& in) {
    in.digests = random.percent(20);
    // Ranks of the release before do not add up messages.
    if (!random.percent(in.digests ? 50 : 15) || (!in.digests && in.mixed_protocols))
        return;
    in.network.flipped_percent = 10;
    if (in.digests && !in.one_copy) // what a sibling hands on is compared where it landed
        in.copies_flipped_percent = 10;
    for (auto& wanted : in.requests)
        wanted.may_fail = true;
}

planned_request draw_request(random_source& random, const scenario& in, std::uint64_t number) {
    planned_request result;
    result.request = number;
    result.content = in.seed * 16 + number;
    result.aux = random.percent(40) ? aux_mode::required : aux_mode::none;
    auto blocks = static_cast<std::uint32_t>(random.between(1, 3));
    result.send_blocks = cut_into_slices(random, blocks);
    result.receive_blocks =
        random.percent(85) ? std::vector{blocks} : cut_into_slices(random, blocks);
    auto first = random.between(microseconds{0}, microseconds{2500});
    auto second =
        first + random.between(microseconds{0}, microseconds{random.percent(20) ? 20'000 : 1500});
    result.context_opens = first;
    result.generation_opens = second;
    if (random.percent(50))
        std::swap(result.context_opens, result.generation_opens);
    result.between_pieces = random.between(microseconds{1}, microseconds{400});
    if (random.percent(15))
        result.context_deadline = random.between(microseconds{1000}, microseconds{8000});
    if (random.percent(15))
        result.generation_deadline = random.between(microseconds{1000}, microseconds{8000});
    while (random.percent(25)) {
        auto who = random.percent(50) ? side::context : side::generation;
        auto opens = who == side::context ? result.context_opens : result.generation_opens;
        result.cancels.push_back({who, any_place(random, in, who).rank,
                                  opens + random.between(microseconds{0}, microseconds{3000})});
    }
    result.context_absent = random.percent(3);
    result.context_stalls = random.percent(6);
    result.sends_too_much = random.percent(2);
    result.aux_mismatch = result.aux == aux_mode::required && random.percent(8);
    if (in.context.attention_dp)
        result.context_group = any_place(random, in, side::context).rank;
    return result;
}

planned_fault draw_fault(random_source& random, const scenario& in) {
    planned_fault result;
    result.what = static_cast<fault_kind>(random.below(9));
    constexpr std::array<std::string_view, 6> actors{"tx_session", "rx_session", "tx_session",
                                                     "peer_link",  "sender",     "receiver"};
    if (result.what == fault_kind::actor_dies)
        result.actor = actors[random.below(actors.size())];
    auto instance = random.percent(60) ? side::context : side::generation;
    result.who = any_place(random, in, instance);
    result.other =
        any_place(random, in, instance == side::context ? side::generation : side::context);
    result.at = random.between(microseconds{200}, microseconds{5000});
    result.lasts =
        random.between(microseconds{100}, microseconds{random.percent(30) ? 150'000 : 8000});
    return result;
}

/// States that came later than the others. A source of their own keeps the former draws as they
/// were.
void draw_more(random_source random, scenario& in) {
    for (auto instance : {side::context, side::generation})
        for (std::uint32_t rank = 0;
             rank < (instance == side::context ? in.context : in.generation).ranks(); ++rank)
            if (random.percent(6))
                in.elsewhere.push_back({instance, rank});
    if (random.percent(3)) {
        auto unsayable = draw_request(random, in, in.requests.size() + 1);
        unsayable.too_long = true;
        in.requests.push_back(std::move(unsayable));
    }
    if (random.percent(8)) {
        auto silence = draw_fault(random, in);
        silence.what = fault_kind::silence;
        in.faults.push_back(silence);
    }
    if (random.percent(2)) {
        auto doubt = draw_fault(random, in);
        doubt.what = fault_kind::undecided;
        doubt.who.instance = side::context;
        doubt.who.rank %= in.context.ranks();
        in.faults.push_back(doubt);
    }
    for (std::size_t i = 0; i < in.requests.size(); ++i) {
        auto& wanted = in.requests[i];
        const auto again = i > 0 && in.requests[i - 1].request == wanted.request;
        const auto mixed = wanted.other_content != 0 && in.generation.ranks() > 1;
        wanted.back = again ? in.requests[i - 1].back
                            : !in.context.attention_dp && !mixed && random.percent(12);
    }
}

/// True when a deadline may come before the transfer: that is not a failure of the product.
bool tight(const planned_request& x) {
    return x.context_deadline < microseconds{50'000}
           || x.generation_deadline < microseconds{50'000};
}

} // namespace

scenario scenario_of(std::uint64_t seed) {
    random_source random{seed * 0x2545f4914f6cdd1dull + 1};
    scenario result;
    result.name = "seed " + std::to_string(seed);
    result.seed = seed;
    constexpr std::array<instance_shape, 4> shapes{{{1, 1}, {1, 1}, {2, 1}, {1, 2}}};
    result.context = shapes[random.below(shapes.size())];
    result.generation = shapes[random.below(shapes.size())];
    // Duplicated heads, so that some context ranks send nothing; or heads and layers split at once.
    if (random.percent(6))
        result.context = random.percent(60) ? instance_shape{4, 1} : instance_shape{2, 2};
    if (random.percent(6))
        result.generation = random.percent(60) ? instance_shape{4, 1} : instance_shape{2, 2};
    if (random.percent(15))
        result.context = {2, 1, true};
    result.same_host = random.percent(60);
    if (random.percent(is_steered() ? 90 : 60)) {
        set_trap(random, result);
        return result;
    }
    result.route = random.percent(25) ? route_choice::direct : route_choice::automatic;
    result.inline_copies = random.percent(40);
    result.slots_per_rank = random.percent(15) ? 4 : 10;
    if (random.percent(4))
        result.sessions_max = 1;
    if (random.percent(4))
        result.early_requests_max = 1;
    if (random.percent(10))
        result.early_request_lease = microseconds{3000};
    if (random.percent(5))
        result.failing_registrations = 1;
    // Renewals arrive in time unless a process is held up: a lease is much longer than any latency.
    const auto short_lease = result.early_request_lease < microseconds{10'000};
    result.network.latency_max = microseconds{random.percent(20) && !short_lease ? 2000 : 100};
    if (random.percent(20))
        result.network.duplicate_percent = 20;
    if (random.percent(20))
        result.network.overtake_percent = 20;
    if (random.percent(4))
        result.network.lost_completion_percent = 30;
    if (random.percent(50))
        result.unkind_for = random.between(microseconds{0}, microseconds{20'000});
    const auto requests = random.between(1, 3);
    for (std::uint64_t number = 1; number <= requests; ++number) {
        auto wanted = draw_request(random, result, number);
        wanted.may_fail = tight(wanted);
        result.requests.push_back(std::move(wanted));
    }
    if (random.percent(15)) { // the same rid again, some time later
        auto again = result.requests.back();
        again.cancels.clear();
        again.context_absent = random.percent(50); // the other side has not noticed
        // Some context ranks may still have the former request while others have the new one. The
        // hosts must agree on that; it is not the transfer's job.
        if (result.context.ranks() == 1 || again.context_absent)
            again.content += 8;
        const auto wait = random.between(microseconds{200}, microseconds{6000});
        again.context_opens += wait;
        again.generation_opens += wait;
        again.may_fail = true;
        result.requests.back().may_fail = true;
        result.requests.back().other_content = again.content;
        again.other_content = result.requests.back().content;
        result.requests.push_back(std::move(again));
    }
    if (!random.percent(30))
        do
            result.faults.push_back(draw_fault(random, result));
        while (random.percent(35) && result.faults.size() < 4);
    draw_more(random_source{seed * 0x9e3779b97f4a7c15ull + 2}, result);
    draw_digests(random_source{seed * 0x9e3779b97f4a7c15ull + 3}, result);
    return result;
}

std::string_view name_of(fault_kind x) {
    constexpr std::array<std::string_view, 11> names{
        "crash",  "restart",    "freeze",         "cut",     "reset",           "slow",
        "replay", "actor dies", "restart of one", "silence", "undecided copies"};
    return names[static_cast<std::size_t>(x)];
}

} // namespace kvferry::harness
