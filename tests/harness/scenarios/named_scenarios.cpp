// SPDX-License-Identifier: Apache-2.0
// Situations with a name. The seed decides only the order of events.
#include "tests/harness/scenarios/scenario.hpp"

#include <utility>

namespace kvferry::harness {

namespace {

constexpr place context_0{side::context, 0};
constexpr place generation_0{side::generation, 0};

/// Changes to one request between two ranks. Everything else stays calm.
using change = std::function<void(scenario&, planned_request&)>;

named_scenario with(std::string_view name, std::string_view what, change how) {
    return {name, what, [name, how = std::move(how)](std::uint64_t seed) {
                scenario result;
                result.name = name;
                result.seed = seed;
                planned_request wanted;
                wanted.content = seed + 1;
                wanted.context_opens = microseconds{1000};
                wanted.generation_opens = microseconds{1200};
                how(result, wanted);
                result.requests.insert(result.requests.begin(), std::move(wanted));
                return result;
            }};
}

/// Bytes go over the fabric, in many pieces.
void go_direct(scenario& in) {
    in.route = route_choice::direct;
    in.network.latency_max = microseconds{400};
}

/// Copies take time, on the copying thread.
void go_mapped_slowly(scenario& in) {
    in.inline_copies = false;
}

void cancel(planned_request& wanted, side who, int at_us) {
    wanted.cancels.push_back({who, 0, microseconds{at_us}});
}

void fault(scenario& in, fault_kind what, place who, int at_us, int lasts_us = 0,
           place other = generation_0) {
    in.faults.push_back({what, who, other, microseconds{at_us}, microseconds{lasts_us}});
}

void instances(scenario& in, instance_shape context, instance_shape generation) {
    in.context = context;
    in.generation = generation;
}

void in_pieces(planned_request& wanted) {
    wanted.send_blocks = {1, 1, 1};
    wanted.receive_blocks = {3};
    wanted.between_pieces = microseconds{300};
}

std::vector<named_scenario> make_all() {
    using enum fault_kind;
    std::vector<named_scenario> all;
    auto add = [&](std::string_view name, std::string_view what, change how) {
        all.push_back(with(name, what, std::move(how)));
    };
    // -- shapes and orders
    add("plain", "one request, one rank on each side, pools mapped", [](auto&, auto&) {});
    add("plain-direct", "the same over the fabric", [](auto& in, auto&) { go_direct(in); });
    add("plain-copies", "the same on the copying thread",
        [](auto& in, auto&) { go_mapped_slowly(in); });
    add("tp2-to-tp1", "two writers, one receiver", [](auto& in, auto&) {
        instances(in, {2, 1}, {1, 1});
    });
    add("tp1-to-tp2", "one writer, two receivers", [](auto& in, auto&) {
        instances(in, {1, 1}, {2, 1});
    });
    add("pp2-to-tp2", "layers on one side, heads on the other", [](auto& in, auto&) {
        instances(in, {1, 2}, {2, 1});
    });
    add("tp2-to-pp2", "heads on one side, layers on the other", [](auto& in, auto&) {
        instances(in, {2, 1}, {1, 2});
        go_direct(in);
    });
    add("one-of-two-groups", "attention DP: both context ranks are asked, one runs the request",
        [](auto& in, auto& x) {
            instances(in, {2, 1, true}, {1, 1});
            x.context_group = 1;
            x.aux = aux_mode::required;
        });
    add("one-of-two-groups-to-tp2", "two receivers must agree which group it is",
        [](auto& in, auto& x) {
            instances(in, {2, 1, true}, {2, 1});
            go_direct(in);
            in_pieces(x);
            x.context_group = in.seed % 2;
        });
    add("other-group-dies", "the group that does not run the request dies while it does",
        [](auto& in, auto& x) {
            instances(in, {2, 1, true}, {1, 1});
            go_direct(in);
            in_pieces(x);
            x.context_group = 1;
            fault(in, crash, context_0, 2300);
        });
    add("generation-first", "the request waits for its session",
        [](auto&, auto& x) { x.context_opens = microseconds{9000}; });
    add("generation-first-tp2", "two early requests, two writers", [](auto& in, auto& x) {
        instances(in, {2, 1}, {2, 1});
        x.context_opens = microseconds{9000};
        x.aux = aux_mode::required;
    });
    add("lease-renewed", "the session comes long after the lease of its request, which was renewed",
        [](auto& in, auto& x) {
            in.early_request_lease = microseconds{4000};
            x.context_opens = microseconds{30'000};
        });
    add("lease-ends", "the receiver is frozen and cannot renew its lease", [](auto& in, auto& x) {
        in.early_request_lease = microseconds{4000};
        x.context_opens = microseconds{30'000};
        fault(in, freeze, generation_0, 4000, 20'000);
    });
    add("sent-in-pieces", "three send slices, one receive slice",
        [](auto&, auto& x) { in_pieces(x); });
    add("sent-in-pieces-direct", "three send slices whose puts overtake each other",
        [](auto& in, auto& x) {
            in_pieces(x);
            x.between_pieces = microseconds{5};
            go_direct(in);
        });
    add("received-in-pieces", "one send slice, three receive slices", [](auto&, auto& x) {
        x.send_blocks = {3};
        x.receive_blocks = {1, 1, 1};
    });
    add("cut-differently", "send slices and receive slices that do not line up",
        [](auto& in, auto& x) {
            x.send_blocks = {1, 3};
            x.receive_blocks = {3, 1};
            go_direct(in);
        });
    add("with-aux", "success needs the aux record",
        [](auto&, auto& x) { x.aux = aux_mode::required; });
    add("aux-unwanted", "one side opened with aux, the other without", [](auto&, auto& x) {
        x.aux = aux_mode::required;
        x.aux_mismatch = true;
    });
    add("many-at-once", "six requests at the same time", [](auto& in, auto& x) {
        go_mapped_slowly(in);
        in.slots_per_rank = 16;
        for (std::uint64_t number = 2; number <= 6; ++number) {
            auto more = x;
            more.request = number;
            more.content = x.content + number * 1000;
            in.requests.push_back(more);
        }
    });
    // -- cancels
    add("cancel-before-link", "the receiver gives up while its link is made",
        [](auto&, auto& x) { cancel(x, side::generation, 1210); });
    add("cancel-before-request", "the sender gives up before anybody asks", [](auto&, auto& x) {
        x.generation_opens = microseconds{6000};
        cancel(x, side::context, 2000);
    });
    add("cancel-while-remembered", "the receiver gives up while its request waits for a session",
        [](auto&, auto& x) {
            x.context_opens = microseconds{9000};
            cancel(x, side::generation, 5000);
        });
    add("cancel-between-pieces", "the receiver gives up between two pieces", [](auto& in, auto& x) {
        in_pieces(x);
        go_direct(in);
        cancel(x, side::generation, 2200);
    });
    add("sender-cancels-between-pieces", "the sender gives up between two pieces",
        [](auto& in, auto& x) {
            in_pieces(x);
            go_mapped_slowly(in);
            cancel(x, side::context, 2200);
        });
    add("cancel-while-bytes-move", "the receiver gives up while a put is under way",
        [](auto& in, auto& x) {
            go_direct(in);
            cancel(x, side::generation, 2600);
        });
    add("sender-cancels-while-bytes-move", "the sender gives up while a put is under way",
        [](auto& in, auto& x) {
            go_direct(in);
            cancel(x, side::context, 2600);
        });
    add("cancel-after-the-last-byte", "both give up when all is over", [](auto&, auto& x) {
        cancel(x, side::context, 30'000);
        cancel(x, side::generation, 30'000);
    });
    add("cancel-from-both-ends", "both sides give up twice", [](auto& in, auto& x) {
        go_direct(in);
        for (int at : {2300, 2400}) {
            cancel(x, side::context, at);
            cancel(x, side::generation, at);
        }
    });
    add("one-of-two-receivers-cancels", "its sibling ends as well", [](auto& in, auto& x) {
        instances(in, {1, 1}, {2, 1});
        cancel(x, side::generation, 2300);
    });
    add("rid-again-after-cancel", "the receiver gives up and asks again under the same rid",
        [](auto& in, auto& x) {
            x.may_fail = true;
            auto again = x;
            again.content += 5000;
            again.context_opens += microseconds{4000};
            again.generation_opens += microseconds{4000};
            x.other_content = again.content;
            again.other_content = x.content;
            cancel(x, side::generation, 2400);
            in.requests.push_back(again);
        });
    // -- deadlines and limits
    add("sender-never-comes", "the receiver ends by its deadline", [](auto&, auto& x) {
        x.context_absent = true;
        x.generation_deadline = microseconds{20'000};
    });
    add("receiver-waits-for-slots", "it keeps the sender's session far beyond its deadline",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {1, 2});
            x.context_deadline = microseconds{24'000}; // later than a first retry of bring-up
            x.generation_opens = microseconds{1000};
            x.receives_after = microseconds{60'000};
            x.must_succeed = true;
        });
    add("sender-stalls", "the last piece never comes", [](auto&, auto& x) {
        in_pieces(x);
        x.context_stalls = true;
        x.context_deadline = microseconds{20'000};
    });
    add("tight-deadline", "the receiver's deadline falls into the transfer", [](auto& in, auto& x) {
        go_direct(in);
        x.generation_deadline = microseconds{2000};
        x.may_fail = true;
    });
    add("one-slice-too-many", "the host sends after its last slice",
        [](auto&, auto& x) { x.sends_too_much = true; });
    add("full-pool", "three requests share room for one", [](auto& in, auto& x) {
        in.slots_per_rank = 2;
        x.may_fail = true;
        for (std::uint64_t number = 2; number <= 3; ++number) {
            auto more = x;
            more.request = number;
            more.content = x.content + number * 1000;
            in.requests.push_back(more);
        }
    });
    add("too-many-sessions", "sessions_max is one", [](auto& in, auto& x) {
        in.sessions_max = 1;
        x.may_fail = true;
        auto more = x;
        more.request = 2;
        more.content += 1000;
        in.requests.push_back(more);
    });
    add("too-many-early-requests", "early_requests_max is one", [](auto& in, auto& x) {
        in.early_requests_max = 1;
        x.context_opens = microseconds{9000};
        x.may_fail = true;
        auto more = x;
        more.request = 2;
        more.content += 1000;
        in.requests.push_back(more);
    });
    add("registration-fails-once", "the memory cannot be registered at first",
        [](auto& in, auto&) { in.failing_registrations = 1; });
    // -- processes
    add("writer-dies-mapped", "SIGKILL in the middle of a copy", [](auto& in, auto& x) {
        go_mapped_slowly(in);
        in_pieces(x);
        fault(in, crash, context_0, 2300);
    });
    add("writer-dies-direct", "SIGKILL in the middle of a put, its bytes still in the sockets",
        [](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            fault(in, crash, context_0, 2300);
        });
    add("one-of-two-writers-dies", "its sibling goes on writing", [](auto& in, auto& x) {
        instances(in, {2, 1}, {1, 1});
        go_direct(in);
        in_pieces(x);
        fault(in, crash, context_0, 2300);
    });
    add("receiving-rank-dies", "SIGKILL of its process in the middle of a put",
        [](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            fault(in, crash, generation_0, 2300);
        });
    add("writer-restarts", "another process on the same endpoint, and a new request",
        [](auto& in, auto& x) {
            fault(in, restart, context_0, 2000, 1000);
            x.may_fail = true;
            auto more = x;
            more.request = 2;
            more.content += 1000;
            more.context_opens = more.generation_opens = microseconds{30'000};
            in.requests.push_back(more);
        });
    add("receiver-restarts", "the receiver comes back as another process", [](auto& in, auto& x) {
        in_pieces(x);
        fault(in, restart, generation_0, 2300, 1000);
        for (int at = 6000; at < 9000; at += 300)
            fault(in, replay, generation_0, at);
    });
    add("writer-frozen-mapped", "SIGSTOP past the deadline, then SIGCONT in the middle of a copy",
        [](auto& in, auto& x) {
            go_mapped_slowly(in);
            in_pieces(x);
            x.generation_deadline = microseconds{10'000};
            fault(in, freeze, context_0, 2300, 40'000);
        });
    add("writer-frozen-direct", "the same in the middle of a put", [](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        x.generation_deadline = microseconds{10'000};
        fault(in, freeze, context_0, 2300, 40'000);
    });
    add("receiver-frozen", "SIGSTOP of the receiver; its bytes wait in the sockets",
        [](auto& in, auto& x) {
            go_direct(in);
            x.context_deadline = microseconds{10'000};
            fault(in, freeze, generation_0, 2300, 40'000);
        });
    add("slow-receiver", "everything at the receiver takes a hundred times as long",
        [](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            fault(in, slow, generation_0, 1500, 20'000);
        });
    // -- the network
    add("cut-while-bytes-move", "nothing passes for a while", [](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        fault(in, cut, context_0, 2300, 8000);
    });
    add("cut-past-the-deadline", "nothing passes until both have given up", [](auto& in, auto& x) {
        go_direct(in);
        x.context_deadline = x.generation_deadline = microseconds{10'000};
        fault(in, cut, context_0, 2300, 40'000);
    });
    add("cut-during-handshake", "nothing passes while the link is made",
        [](auto& in, auto&) { fault(in, cut, context_0, 1250, 30'000); });
    add("connection-breaks", "the connection breaks in the middle of a put", [](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        fault(in, reset, context_0, 2300);
    });
    add("connection-breaks-mapped", "the connection breaks in the middle of a copy",
        [](auto& in, auto& x) {
            go_mapped_slowly(in);
            in_pieces(x);
            fault(in, reset, context_0, 2300);
        });
    add("connection-breaks-while-waiting", "it breaks and comes back before the prefill has ended",
        [](auto& in, auto& x) {
            x.context_opens = microseconds{12'000};
            x.must_succeed = true;
            fault(in, reset, context_0, 5000);
        });
    add("connection-breaks-often-while-waiting",
        "the same three times, with two ranks on each side", [](auto& in, auto& x) {
            instances(in, {2, 1}, {2, 1});
            x.context_opens = microseconds{25'000};
            x.aux = aux_mode::required;
            x.must_succeed = true;
            for (int at = 4000; at <= 16'000; at += 6000)
                fault(in, reset, context_0, at);
        });
    add("connection-breaks-while-waiting-elsewhere", "the same between two machines",
        [](auto& in, auto& x) {
            in.same_host = false;
            x.context_opens = microseconds{12'000};
            x.must_succeed = true;
            fault(in, reset, context_0, 5000);
        });
    add("writer-dies-elsewhere", "another machine: its pages come back without a proof of its end",
        [](auto& in, auto& x) {
            in.same_host = false;
            go_direct(in);
            in_pieces(x);
            fault(in, crash, context_0, 2300);
        });
    add("writer-frozen-elsewhere", "what it still sends after its thaw is shut out",
        [](auto& in, auto& x) {
            in.same_host = false;
            go_direct(in);
            in_pieces(x);
            x.generation_deadline = microseconds{10'000};
            fault(in, freeze, context_0, 2300, 40'000);
        });
    add("waits-for-a-dead-writer-elsewhere", "it dies before it has sent anything",
        [](auto& in, auto& x) {
            in.same_host = false;
            x.context_opens = microseconds{12'000};
            x.may_fail = true;
            fault(in, crash, context_0, 5000);
        });
    add("lost-completion", "a put is never confirmed", [](auto& in, auto& x) {
        go_direct(in);
        in.network.lost_completion_percent = 100;
        x.context_deadline = x.generation_deadline = microseconds{20'000};
    });
    add("everything-twice", "every frame arrives twice", [](auto& in, auto& x) {
        in_pieces(x);
        x.aux = aux_mode::required;
        in.network.duplicate_percent = 100;
    });
    add("out-of-order", "every third frame is overtaken", [](auto& in, auto& x) {
        in_pieces(x);
        x.aux = aux_mode::required;
        in.network.overtake_percent = 33;
        cancel(x, side::generation, 2300);
    });
    add("rank-0-restarts", "rank 0 starts anew, and the rank-info server with it; rank 1 lives on",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {1, 1});
            x.may_fail = true;
            fault(in, restart_one, context_0, 3000, 1000);
        });
    const auto dies = [](scenario& in, std::string_view actor, place who) {
        fault(in, actor_dies, who, 2300);
        in.faults.back().actor = actor;
    };
    add("writing-session-dies", "the session that writes dies with puts on their way",
        [dies](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            dies(in, "tx_session", context_0);
        });
    add("reading-session-dies", "the session that is written for dies", [dies](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        dies(in, "rx_session", {side::generation, 0});
    });
    add("sender-dies", "the sender dies with puts on their way", [dies](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        dies(in, "sender", context_0);
    });
    add("receiver-dies", "the receiver dies while bytes come", [dies](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        dies(in, "receiver", {side::generation, 0});
    });
    add("link-dies", "the link dies with puts on their way", [dies](auto& in, auto& x) {
        go_direct(in);
        in_pieces(x);
        dies(in, "peer_link", context_0);
    });
    add("rank-elsewhere-dies", "one of two writers is on another machine, and dies",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {1, 1});
            in.elsewhere = {{side::context, 1}};
            go_direct(in);
            in_pieces(x);
            fault(in, crash, {side::context, 1}, 2300);
        });
    add("link-falls-silent", "bytes are lost, both ends give up by themselves, then it heals",
        [](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            fault(in, silence, context_0, 2300, 30'000);
        });
    add("request-too-long", "no message can hold it; the next one, on the same link, is served",
        [](auto& in, auto& x) {
            x.too_long = true;
            x.context_absent = true;
            auto good = x;
            good.too_long = good.context_absent = false;
            good.request = 2;
            good.content += 1;
            good.context_opens = good.generation_opens = microseconds{4000};
            in.requests.push_back(std::move(good));
        });
    add("copies-in-doubt", "the writer does not know what its launches do, and stops",
        [](auto& in, auto& x) {
            go_mapped_slowly(in);
            x.may_fail = true;
            fault(in, undecided, context_0, 0);
        });
    add("silent-link", "the network swallows everything for longer than a link's patience",
        [](auto& in, auto& x) {
            go_direct(in);
            in_pieces(x);
            x.may_fail = true;
            in.link_health_interval = std::chrono::milliseconds{2};
            in.link_patience = std::chrono::milliseconds{10};
            in.faults.push_back({fault_kind::cut, context_0, generation_0, microseconds{500},
                                 microseconds{120'000}, since::first_request});
        });
    add("one-copy", "four ranks far from the context, two pairs of which need the same bytes",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {4, 1});
            in.one_copy = true;
            in_pieces(x);
            x.receive_blocks = {1, 2};
            x.aux = aux_mode::required;
        });
    add("one-copy-of-a-part",
        "four ranks far from the context; two pairs of them need the same heads, and all of them "
        "the "
        "same latents; what arrives is handed on in the pieces in which it comes",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {4, 1});
            in.one_copy = in.latent = true;
            x.send_blocks = {1, 1, 1};
            x.receive_blocks = {3};
            x.aux = aux_mode::required;
        });
    add("part-never-lands",
        "ranks with heads of their own; the one that is to hand on the latents comes too late",
        [](auto& in, auto& x) {
            instances(in, {1, 1}, {2, 1});
            in.one_copy = in.latent = true;
            x.late_rank = static_cast<std::uint32_t>(in.seed % 2);
            x.late_by = microseconds{30'000};
            x.generation_deadline = microseconds{20'000};
            x.context_deadline = microseconds{300'000};
        });
    add("one-copy-late", "one of them opens when the others have everything",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {4, 1});
            in.one_copy = true;
            x.late_rank = static_cast<std::uint32_t>(in.seed % 4);
            x.late_by = microseconds{12'000};
            x.context_deadline = microseconds{300'000};
        });
    add("one-copy-never-lands", "the rank that is to hand on comes when the others have to be over",
        [](auto& in, auto& x) {
            instances(in, {2, 1}, {4, 1});
            in.one_copy = true;
            x.late_rank = static_cast<std::uint32_t>(in.seed % 4);
            x.late_by = microseconds{30'000};
            x.generation_deadline = microseconds{20'000};
            x.context_deadline = microseconds{300'000};
        });
    add("old-frames", "old frames arrive again and again", [](auto& in, auto& x) {
        in_pieces(x);
        for (int at = 1600; at < 5000; at += 100)
            fault(in, replay, context_0, at);
    });
    return all;
}

} // namespace

const std::vector<named_scenario>& named_scenarios() {
    static const std::vector<named_scenario> all = make_all();
    return all;
}

} // namespace kvferry::harness
