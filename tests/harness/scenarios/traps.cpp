// SPDX-License-Identifier: Apache-2.0
// Situations in which two events must coincide. The seed decides when each of them happens. Seeds
// that draw every event independently would reach these situations too rarely.
#include "tests/harness/scenarios/scenario.hpp"

#include <algorithm>
#include <array>

namespace kvferry::harness {

namespace {

constexpr place generation_0{side::generation, 0};

/// From the first bytes that are sent to the last confirmation.
microseconds while_bytes_move(random_source& random) {
    return random.between(microseconds{0}, microseconds{2500});
}

std::uint32_t context_rank(random_source& random, const scenario& in) {
    return static_cast<std::uint32_t>(random.below(in.context.ranks()));
}

/// Many pieces of puts on a slow network.
planned_request& slow_puts(random_source& random, scenario& in) {
    in.route = route_choice::direct;
    in.inline_copies = false;
    in.network.latency_max = microseconds{2000};
    auto& wanted = in.requests.back();
    wanted.send_blocks =
        random.percent(50) ? std::vector<std::uint32_t>{5} : std::vector<std::uint32_t>{2, 2, 1};
    wanted.receive_blocks = {5};
    wanted.between_pieces = random.between(microseconds{1}, microseconds{1500});
    return wanted;
}

void fault(random_source& random, scenario& in, fault_kind what, place who,
           microseconds lasts = microseconds{0}) {
    in.faults.push_back(
        {what, who, {side::generation, 0}, while_bytes_move(random), lasts, since::first_write});
}

/// The kernel proves the death; what the dead writer had sent may be read after that.
void writer_dies(random_source& random, scenario& in) {
    in.same_host = true;
    in.network.late_last_words = random.percent(60);
    slow_puts(random, in);
    fault(random, in, fault_kind::crash, {side::context, context_rank(random, in)});
}

void connection_breaks(random_source& random, scenario& in) {
    slow_puts(random, in);
    fault(random, in, fault_kind::reset, {side::context, context_rank(random, in)});
}

void writer_freezes(random_source& random, scenario& in) {
    slow_puts(random, in).generation_deadline = microseconds{10'000};
    in.requests.back().may_fail = true;
    fault(random, in, fault_kind::freeze, {side::context, context_rank(random, in)},
          microseconds{40'000});
}

/// Copies through a mapping, which nothing on the reader's side can stop.
planned_request& slow_copies(random_source& random, scenario& in, planned_fault what) {
    in.context = in.generation = {1, 1};
    in.same_host = true;
    in.elsewhere.clear();
    in.route = route_choice::automatic;
    in.inline_copies = false;
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.send_blocks = {2, 2, 1};
    wanted.receive_blocks = {5};
    wanted.between_pieces = random.between(microseconds{1}, microseconds{1500});
    wanted.may_fail = true;
    what.who = {side::context, 0};
    what.other = {side::generation, 0};
    what.at = random.between(microseconds{0}, microseconds{4000});
    what.from = since::first_request;
    in.faults.push_back(what);
    return wanted;
}

/// The reader's deadline passes while its writer sleeps in the middle of a copy.
void copying_writer_freezes(random_source& random, scenario& in) {
    planned_fault freeze;
    freeze.what = fault_kind::freeze;
    freeze.lasts = microseconds{40'000};
    slow_copies(random, in, freeze).generation_deadline = microseconds{10'000};
}

void link_breaks_while_copying(random_source& random, scenario& in) {
    planned_fault reset;
    reset.what = fault_kind::reset;
    slow_copies(random, in, reset);
}

/// One writer fails at once with nothing in flight, while its sibling still writes.
void one_of_two_writers_fails(random_source& random, scenario& in) {
    in.context = {2, 1};
    in.requests.back().context_group.reset();
    auto& wanted = slow_puts(random, in);
    wanted.send_blocks = {5};
    wanted.stalling_rank = context_rank(random, in);
    wanted.cancels.push_back({side::context, *wanted.stalling_rank,
                              random.between(microseconds{0}, microseconds{400}),
                              since::first_write});
}

/// Sometimes the sender still has more to give.
void receiver_cancels(random_source& random, scenario& in) {
    auto& wanted = slow_puts(random, in);
    if (random.percent(50))
        wanted.send_blocks = {2, 2, 1};
    wanted.context_stalls = random.percent(60);
    wanted.cancels.push_back({side::generation, 0, while_bytes_move(random), since::first_write});
}

void sender_cancels(random_source& random, scenario& in) {
    auto& wanted = slow_puts(random, in);
    wanted.cancels.push_back(
        {side::context, context_rank(random, in), while_bytes_move(random), since::first_write});
}

/// The cancel follows right behind the request, on a network that reorders frames.
void cancel_behind_request(random_source& random, scenario& in) {
    slow_puts(random, in).send_blocks = {5};
    in.context = in.generation = {1, 1};
    in.requests.back().context_group.reset();
    in.network.overtake_percent = 50;
    in.requests.back().cancels.push_back({side::generation, 0,
                                          random.between(microseconds{0}, microseconds{200}),
                                          since::first_request});
}

void instance_restarts(random_source& random, scenario& in) {
    auto& wanted = in.requests.back();
    wanted.may_fail = true;
    in.faults.push_back({fault_kind::restart,
                         {side::context, 0},
                         {},
                         random.between(microseconds{3000}, microseconds{6000}),
                         random.between(microseconds{100}, microseconds{3000})});
}

/// Restarts rank 0, which holds the rank-info server, or the other rank.
void one_rank_restarts(random_source& random, scenario& in) {
    if (in.context.ranks() == 1)
        in.context = {2, 1};
    if (!in.context.attention_dp)
        in.requests.back().context_group.reset();
    in.requests.back().may_fail = true;
    in.faults.push_back({fault_kind::restart_one,
                         {side::context, random.percent(75) ? 0u : 1u},
                         {},
                         random.between(microseconds{500}, microseconds{6000}),
                         random.between(microseconds{100}, microseconds{3000})});
}

void copy_is_cancelled(random_source& random, scenario& in) {
    in.same_host = true;
    in.inline_copies = false;
    auto& wanted = in.requests.back();
    wanted.send_blocks = {1, 1, 1};
    wanted.receive_blocks = {3};
    wanted.between_pieces = random.between(microseconds{1}, microseconds{300});
    wanted.cancels.push_back({random.percent(50) ? side::generation : side::context, 0,
                              random.between(microseconds{0}, microseconds{600}),
                              since::first_request});
}

void all_frames_twice(random_source& random, scenario& in) {
    in.network.duplicate_percent = 60;
    in.network.overtake_percent = random.percent(50) ? 30 : 0;
    auto& wanted = in.requests.back();
    wanted.aux = random.percent(50) ? aux_mode::required : aux_mode::none;
    wanted.send_blocks = {1, 1, 1};
    wanted.receive_blocks =
        random.percent(50) ? std::vector<std::uint32_t>{3} : std::vector<std::uint32_t>{1, 1, 1};
    wanted.between_pieces = random.between(microseconds{1}, microseconds{400});
    in.route = random.percent(50) ? route_choice::direct : route_choice::automatic;
}

/// The second attempt asks while the first one is served; the sender gives up before both do.
void two_attempts_at_once(random_source& random, scenario& in) {
    in.early_request_lease = microseconds{300'000}; // renewals would hide a missing answer
    auto& first = in.requests.back();
    first.send_blocks = {1, 1};
    first.receive_blocks = {2};
    first.context_stalls = true;
    first.may_fail = true;
    first.context_deadline = random.between(microseconds{10'000}, microseconds{30'000});
    auto second = first;
    second.context_absent = true;
    second.generation_opens += random.between(microseconds{500}, microseconds{4000});
    in.requests.push_back(second);
}

void lease_ends(random_source& random, scenario& in) {
    in.early_request_lease = microseconds{4000};
    in.generation = {1, 1}; // a sibling's renewals would keep its request alive
    auto& wanted = in.requests.back();
    wanted.context_opens = random.between(microseconds{8000}, microseconds{40'000});
    wanted.may_fail = true;
    in.faults.push_back({fault_kind::freeze,
                         {side::generation, 0},
                         {side::context, 0},
                         random.between(microseconds{2500}, microseconds{6000}),
                         random.between(microseconds{12'000}, microseconds{30'000})});
}

/// Renewals are often on their way when the last report is sent.
void renewals_cross_reports(random_source& random, scenario& in) {
    in.context = {2, 1};
    auto& wanted = slow_puts(random, in);
    wanted.context_group.reset();
    wanted.send_blocks = {5};
    in.early_request_lease = microseconds{7000};
    wanted.context_opens = random.between(microseconds{7000}, microseconds{14'000});
}

/// The first dial is delayed past its deadline and arrives while the second one is made.
void dials_cross(random_source& random, scenario& in) {
    in.context = in.generation = {1, 1};
    in.same_host = true;
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.may_fail = true;
    const auto lasts = random.between(microseconds{42'000}, microseconds{60'000});
    in.faults.push_back({fault_kind::cut,
                         {side::context, 0},
                         {side::generation, 0},
                         microseconds{0},
                         lasts,
                         since::first_frame});
    auto again = wanted;
    again.request = 2;
    again.content += 1;
    again.context_opens = again.generation_opens =
        wanted.generation_opens + lasts + random.between(microseconds{0}, microseconds{2000});
    in.requests.push_back(again);
}

/// The network swallows everything for a while, and tells nobody.
void link_loses_patience(random_source& random, scenario& in) {
    in.context = in.generation = {1, 1};
    auto& wanted = slow_puts(random, in);
    wanted.context_group.reset();
    wanted.may_fail = true;
    in.link_health_interval = std::chrono::milliseconds{2};
    in.link_patience = std::chrono::milliseconds{random.between(std::uint64_t{8}, 15)};
    in.faults.push_back({fault_kind::cut,
                         {side::context, 0},
                         {side::generation, 0},
                         random.between(microseconds{0}, microseconds{2500}),
                         random.between(microseconds{40'000}, microseconds{150'000}),
                         since::first_request});
}

planned_fault death_of(std::string_view actor, place who, microseconds at,
                       since from = since::first_write) {
    planned_fault result{fault_kind::actor_dies, who, {}, at, microseconds{0}, from};
    result.actor = actor;
    return result;
}

/// The receiver gives up after the session that writes to it died; that session's copies go on.
void writing_session_dies(random_source& random, scenario& in) {
    auto& wanted = slow_puts(random, in);
    wanted.may_fail = true;
    wanted.send_blocks = {5};
    const auto mapped = random.percent(85);
    if (mapped) {
        in.route = route_choice::automatic;
        in.same_host = true;
        in.network.latency_max = microseconds{100};
    }
    const auto from = mapped ? since::first_request : since::first_write;
    const auto at = random.between(microseconds{50}, microseconds{mapped ? 250 : 1200});
    in.faults.push_back(
        death_of("tx_session", {side::context, context_rank(random, in)}, at, from));
    wanted.cancels.push_back(
        {side::generation, 0, at + random.between(microseconds{0}, microseconds{50}), from});
}

void reading_session_dies(random_source& random, scenario& in) {
    slow_puts(random, in).may_fail = true;
    in.faults.push_back(death_of("rx_session", {side::generation, 0}, while_bytes_move(random)));
}

/// Neither a stop nor the next request may treat what the dead table had begun as quiet.
void table_dies(random_source& random, scenario& in) {
    slow_puts(random, in).may_fail = true;
    if (random.percent(50))
        in.faults.push_back(death_of("sender", {side::context, context_rank(random, in)},
                                     while_bytes_move(random)));
    else
        in.faults.push_back(death_of("receiver", {side::generation, 0}, while_bytes_move(random)));
}

void link_dies(random_source& random, scenario& in) {
    in.context = in.generation = {1, 1};
    auto& wanted = slow_puts(random, in);
    wanted.context_group.reset();
    wanted.context_stalls = random.percent(50);
    wanted.may_fail = true;
    in.faults.push_back(death_of("peer_link",
                                 {random.percent(50) ? side::context : side::generation, 0},
                                 while_bytes_move(random)));
}

/// Before the first piece: nothing has moved, and nothing is lost but the request.
void connection_breaks_while_waiting(random_source& random, scenario& in) {
    auto& wanted = in.requests.back();
    wanted.may_fail = true;
    wanted.must_succeed = !wanted.context_group;
    wanted.context_opens =
        wanted.generation_opens + random.between(microseconds{20'000}, microseconds{30'000});
    in.faults.push_back({fault_kind::reset,
                         {side::context, context_rank(random, in)},
                         generation_0,
                         random.between(microseconds{0}, microseconds{4000}),
                         microseconds{0},
                         since::first_request});
}

/// Each end gives the connection up by itself, or only one of them does before it heals.
void each_end_gives_up(random_source& random, scenario& in) {
    auto& wanted = slow_puts(random, in);
    wanted.may_fail = true;
    if (random.percent(50))
        wanted.context_opens += random.between(microseconds{0}, microseconds{8000});
    in.faults.push_back({fault_kind::silence,
                         {side::context, context_rank(random, in)},
                         generation_0,
                         while_bytes_move(random),
                         random.between(microseconds{2000}, microseconds{60'000}),
                         random.percent(50) ? since::first_write : since::first_request});
}

/// A request that no message can hold, and a good one behind it on the same link.
void request_too_long(random_source& random, scenario& in) {
    auto good = in.requests.back();
    in.requests.back().too_long = true;
    in.requests.back().context_absent = random.percent(70);
    good.request = 2;
    good.content += 1;
    good.generation_opens += random.between(microseconds{0}, microseconds{3000});
    good.context_opens += random.between(microseconds{0}, microseconds{3000});
    in.requests.push_back(good);
}

/// The launches of a lost device: nobody knows whether they land while the process lives.
void copies_in_doubt(random_source& random, scenario& in) {
    in.same_host = true;
    in.inline_copies = false;
    in.requests.back().may_fail = true;
    in.faults.push_back({fault_kind::undecided,
                         {side::context, context_rank(random, in)},
                         {},
                         random.between(microseconds{0}, microseconds{200}),
                         microseconds{0},
                         since::first_frame});
}

/// A rank dies right after it has introduced itself; its successor's introduction overtakes it.
void last_words_come_late(random_source& random, scenario& in) {
    in.context = {2, 1};
    in.network.latency_max = microseconds{2000};
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.may_fail = true;
    wanted.context_opens += microseconds{4000};
    wanted.generation_opens += microseconds{4000};
    const auto introduced = random.percent(50) ? microseconds{400} : microseconds{2200};
    in.faults.push_back({fault_kind::restart_one,
                         {side::context, 1},
                         {},
                         introduced + random.between(microseconds{0}, microseconds{300}),
                         microseconds{1}});
}

/// The link of a broken connection lives on, because it watches the peer's process; it dies when
/// another one has taken its place.
void former_link_dies(random_source& random, scenario& in) {
    in.context = in.generation = {1, 1};
    in.same_host = true;
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.may_fail = true;
    auto again = wanted;
    again.request = 2;
    again.content += 1;
    again.context_opens += microseconds{6000};
    again.generation_opens += microseconds{6000};
    in.faults.push_back({fault_kind::reset,
                         {side::context, 0},
                         generation_0,
                         random.between(microseconds{0}, microseconds{2000}),
                         microseconds{0},
                         since::first_request});
    in.faults.push_back(death_of("peer_link", generation_0,
                                 random.between(microseconds{8000}, microseconds{11'000}),
                                 since::first_request));
    in.requests.push_back(again);
}

/// What a writer on another machine has on its way when its attempt ends, and what is being read.
void shut_out_slowly(random_source& random, scenario& in) {
    in.same_host = false;
    (in.seed % 2 == 0 ? in.network.shut_out_max : in.network.read_apart_max) = microseconds{3000};
    auto& wanted = slow_puts(random, in);
    wanted.may_fail = true;
    wanted.cancels.push_back({side::generation, 0, while_bytes_move(random), since::first_write});
}

/// The reader gives up the link to a writer that stops in the middle of a copy and goes on later.
void frozen_copier_is_given_up(random_source& random, scenario& in) {
    in.link_health_interval = std::chrono::milliseconds{2};
    in.link_patience = std::chrono::milliseconds{8};
    planned_fault freeze;
    freeze.what = fault_kind::freeze;
    freeze.lasts = microseconds{40'000};
    slow_copies(random, in, freeze);
}

/// The link of a writer that copies through a mapping is lost for longer than dials are repeated.
void quarantined_writer_comes_back(random_source& random, scenario& in) {
    in.link_health_interval = std::chrono::milliseconds{2};
    in.link_patience = std::chrono::milliseconds{8};
    planned_fault cut;
    cut.what = fault_kind::cut;
    cut.lasts = random.between(microseconds{150'000}, microseconds{250'000});
    slow_copies(random, in, cut);
}

/// The receivers give up before they have asked, or before the sender's host has opened.
void given_up_early(random_source& random, scenario& in) {
    in.context = {random.percent(50) ? 2u : 1u, 1};
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.may_fail = true;
    const auto begins = wanted.generation_opens;
    const auto asks = random.percent(50);
    if (!asks)
        wanted.receives_after = microseconds{60'000};
    if (random.percent(50)) // there is time to give up before
        wanted.context_opens = begins + random.between(microseconds{20'000}, microseconds{40'000});
    else if (asks)
        wanted.context_stalls = true;
    for (std::uint32_t rank = 0; rank < in.generation.ranks(); ++rank)
        wanted.cancels.push_back(
            {side::generation, rank,
             begins + random.between(microseconds{13'000}, microseconds{16'000}), since::begin});
}

/// Each of the two instances sends to the other, over the links that one of them has dialled.
void both_ways(random_source& random, scenario& in) {
    in.context = {random.percent(50) ? 2u : 1u, 1};
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    auto back = wanted;
    back.request = 2;
    back.content += 1;
    back.back = true;
    back.context_opens += random.between(microseconds{0}, microseconds{6000});
    back.generation_opens += random.between(microseconds{0}, microseconds{6000});
    in.requests.push_back(back);
    if (random.percent(50))
        return;
    for (auto& each : in.requests)
        each.may_fail = true;
    const auto from = random.percent(50) ? side::context : side::generation;
    const auto what = random.percent(50) ? fault_kind::reset : fault_kind::crash;
    in.faults.push_back({what,
                         {from, 0},
                         {from == side::context ? side::generation : side::context, 0},
                         random.between(microseconds{0}, microseconds{6000}),
                         microseconds{0},
                         since::first_request});
}

/// A dial to a frozen rank is given up; when that rank thaws and accepts it, it wants the link
/// itself.
void dial_is_given_up(random_source& random, scenario& in) {
    in.context = in.generation = {1, 1};
    auto& wanted = in.requests.back();
    wanted.context_group.reset();
    wanted.may_fail = true;
    const auto lasts = random.between(microseconds{43'000}, microseconds{60'000});
    in.faults.push_back({fault_kind::freeze,
                         {side::context, 0},
                         {side::generation, 0},
                         microseconds{0},
                         lasts,
                         since::first_frame});
    auto back = wanted;
    back.request = 2;
    back.content += 1;
    back.back = true;
    back.must_succeed = true;
    back.context_opens = back.generation_opens =
        wanted.generation_opens + lasts + random.between(microseconds{1500}, microseconds{6000});
    in.requests.push_back(back);
}

void aux_is_refused(random_source&, scenario& in) {
    auto& wanted = in.requests.back();
    wanted.aux = aux_mode::required;
    wanted.aux_mismatch = true;
}

/// Two pairs of ranks that need the same bytes of another machine; or ranks that need some of their
/// bytes alike, each part in another set of them.
planned_request& share_one_copy(random_source& random, scenario& in) {
    in.one_copy = true;
    in.latent = random.percent(60);
    in.same_host = true;
    in.elsewhere.clear();
    in.context =
        random.percent(30) ? instance_shape{1, 2} : instance_shape{random.percent(50) ? 1u : 2u, 1};
    in.generation = {in.latent && random.percent(50) ? 2u : 4u, 1};
    in.inline_copies = random.percent(40);
    auto& wanted = in.requests.back();
    wanted.request = 1 + random.below(16); // decides where it lands
    wanted.context_group.reset();
    wanted.aux = random.percent(50) ? aux_mode::required : aux_mode::none;
    if (random.percent(50))
        wanted.send_blocks = {2, 1};
    else
        wanted.send_blocks = {3};
    if (random.percent(50))
        wanted.receive_blocks = {1, 2};
    else
        wanted.receive_blocks = {3};
    wanted.context_deadline = microseconds{300'000};
    return wanted;
}

void one_copy(random_source& random, scenario& in) {
    share_one_copy(random, in);
}

/// One of the ranks opens late: after the patience of the rank that hands on, or after half of the
/// time that those have which wait for it.
void one_copy_late(random_source& random, scenario& in) {
    auto& wanted = share_one_copy(random, in);
    wanted.late_rank = static_cast<std::uint32_t>(random.below(in.generation.tp));
    if (random.percent(40)) {
        wanted.generation_deadline = microseconds{20'000};
        wanted.late_by = microseconds{30'000};
    } else {
        wanted.late_by = random.between(microseconds{500}, microseconds{12'000});
    }
}

void one_copy_faults(random_source& random, scenario& in) {
    auto& wanted = share_one_copy(random, in);
    if (random.percent(50)) { // copies between siblings take time
        in.inline_copies = false;
        wanted.late_rank = static_cast<std::uint32_t>(random.below(in.generation.tp));
        wanted.late_by = random.between(microseconds{0}, microseconds{3000});
    }
    const auto rank = [&] {
        return place{side::generation, static_cast<std::uint32_t>(random.below(in.generation.tp))};
    };
    constexpr std::array kinds{
        fault_kind::reset,      fault_kind::freeze,      fault_kind::crash,  fault_kind::actor_dies,
        fault_kind::actor_dies, fault_kind::restart_one, fault_kind::silence};
    constexpr std::array<std::string_view, 4> actors{"tx_session", "rx_session", "peer_link",
                                                     "receiver"};
    planned_fault fault;
    fault.what = kinds[random.below(kinds.size())];
    fault.who = rank();
    fault.other = random.percent(70) ? rank() : place{side::context, 0};
    fault.at = random.between(microseconds{0}, microseconds{4000});
    fault.lasts = random.between(microseconds{100}, microseconds{40'000});
    fault.from = since::first_frame;
    if (fault.what == fault_kind::actor_dies)
        fault.actor = actors[random.below(actors.size())];
    in.faults.push_back(fault);
    if (random.percent(20))
        wanted.cancels.push_back({side::generation, rank().rank,
                                  random.between(microseconds{1000}, microseconds{5000})});
}

struct trap {
    std::string_view name;
    void (*set)(random_source&, scenario&);
};

/// Those that depend on more than one chance are listed twice.
constexpr std::array traps{
    trap{"writer-dies", writer_dies},
    trap{"writer-dies", writer_dies},
    trap{"connection-breaks", connection_breaks},
    trap{"writer-freezes", writer_freezes},
    trap{"copying-writer-freezes", copying_writer_freezes},
    trap{"copying-writer-freezes", copying_writer_freezes},
    trap{"link-breaks-while-copying", link_breaks_while_copying},
    trap{"link-breaks-while-copying", link_breaks_while_copying},
    trap{"one-of-two-writers-fails", one_of_two_writers_fails},
    trap{"receiver-cancels", receiver_cancels},
    trap{"sender-cancels", sender_cancels},
    trap{"cancel-behind-request", cancel_behind_request},
    trap{"cancel-behind-request", cancel_behind_request},
    trap{"copy-is-cancelled", copy_is_cancelled},
    trap{"all-frames-twice", all_frames_twice},
    trap{"two-attempts-at-once", two_attempts_at_once},
    trap{"lease-ends", lease_ends},
    trap{"aux-is-refused", aux_is_refused},
    trap{"renewals-cross-reports", renewals_cross_reports},
    trap{"renewals-cross-reports", renewals_cross_reports},
    trap{"dials-cross", dials_cross},
    trap{"writing-session-dies", writing_session_dies},
    trap{"writing-session-dies", writing_session_dies},
    trap{"reading-session-dies", reading_session_dies},
    trap{"table-dies", table_dies},
    trap{"link-dies", link_dies},
    trap{"link-loses-patience", link_loses_patience},
    trap{"link-loses-patience", link_loses_patience},
    trap{"one-rank-restarts", one_rank_restarts},
    trap{"instance-restarts", instance_restarts},
    trap{"connection-breaks-while-waiting", connection_breaks_while_waiting},
    trap{"each-end-gives-up", each_end_gives_up},
    trap{"request-too-long", request_too_long},
    trap{"copies-in-doubt", copies_in_doubt},
    trap{"last-words-come-late", last_words_come_late},
    trap{"last-words-come-late", last_words_come_late},
    trap{"former-link-dies", former_link_dies},
    trap{"shut-out-slowly", shut_out_slowly},
    trap{"frozen-copier-is-given-up", frozen_copier_is_given_up},
    trap{"quarantined-writer-comes-back", quarantined_writer_comes_back},
    trap{"given-up-early", given_up_early},
    trap{"given-up-early", given_up_early},
    trap{"both-ways", both_ways},
    trap{"dial-is-given-up", dial_is_given_up},
    trap{"one-copy", one_copy},
    trap{"one-copy-late", one_copy_late},
    trap{"one-copy-faults", one_copy_faults},
    trap{"one-copy-faults", one_copy_faults},
};

std::string_view steered_towards;

} // namespace

void steer_towards(std::string_view trap_name) {
    steered_towards = trap_name;
}

bool is_steered() {
    return !steered_towards.empty();
}

void set_trap(random_source& random, scenario& in) {
    planned_request wanted;
    wanted.content = in.seed * 16 + 1;
    wanted.context_opens = microseconds{1000};
    wanted.generation_opens = random.between(microseconds{900}, microseconds{1400});
    if (in.context.attention_dp)
        wanted.context_group = context_rank(random, in);
    in.requests.push_back(wanted);
    in.unkind_for = microseconds{15'000};
    const auto* chosen = &traps[random.below(traps.size())];
    if (!steered_towards.empty())
        chosen = std::find_if(traps.begin(), traps.end(),
                              [](const trap& each) { return each.name == steered_towards; });
    in.name += " (" + std::string{chosen->name} + ")";
    chosen->set(random, in);
}

} // namespace kvferry::harness
