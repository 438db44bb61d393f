// SPDX-License-Identifier: Apache-2.0
// One family after the other, each with all ranks.
#include "actors/metrics/rank_exposition.hpp"

#include "messages/errors.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

namespace kvferry {

namespace {

using kind = exposition::kind;
using text = std::string_view;

constexpr std::array sides{side::context, side::generation};
constexpr std::array<text, stage_count> stages{"wait_for_peer", "plan",    "queue", "copy",
                                               "report",        "release", "whole"};
constexpr std::array<text, retried_count> retries{"link", "request", "registration"};

/// Stages that a side knows; `whole` is a family of its own.
constexpr bool knows(side which, std::size_t what) {
    return what != static_cast<std::size_t>(stage::whole)
           && (which == side::context || what == static_cast<std::size_t>(stage::wait_for_peer)
               || what == static_cast<std::size_t>(stage::release));
}

template <class Number>
auto now(const std::atomic<Number>& x) {
    return x.load(std::memory_order_relaxed);
}

class all_ranks {
public:
    all_ranks(exposition& into, const std::vector<rank_facts>& ranks)
        : into_(into), ranks_(ranks) {}

    /// One sample for each rank.
    template <class Value>
    void each(text name, kind what, text help, Value value) {
        into_.family(name, what, help);
        for (const auto& x : ranks_)
            into_.sample({{"kv_instance", x.instance}, {"rank", x.rank}}, value(x));
    }

    /// One sample for each rank and side.
    template <class Value>
    void each_side(text name, kind what, text help, Value value) {
        into_.family(name, what, help);
        for (const auto& x : ranks_)
            for (auto which : sides)
                into_.sample(
                    {{"kv_instance", x.instance}, {"rank", x.rank}, {"side", to_string(which)}},
                    value(x.counters->of(which)));
    }

    /// One sample for each rank, side and entry of a table.
    template <class Table, class Name>
    void each_of(text name, kind what, text help, text label, Table table, Name name_of) {
        into_.family(name, what, help);
        for (const auto& x : ranks_)
            for (auto which : sides) {
                const auto& values = table(x.counters->of(which));
                for (std::size_t index = 0; index < values.size(); ++index)
                    into_.sample({{"kv_instance", x.instance},
                                  {"rank", x.rank},
                                  {"side", to_string(which)},
                                  {label, name_of(index)}},
                                 now(values[index]));
            }
    }

private:
    exposition& into_;
    const std::vector<rank_facts>& ranks_;
};

std::string errc_name(std::size_t index) {
    return to_string(static_cast<errc>(index));
}

std::string state_name(std::size_t index) {
    return to_string(static_cast<session_state>(index));
}

text route_name(std::size_t index) {
    return name_of(static_cast<route>(index));
}

std::string class_name(std::size_t index) {
    return to_string(static_cast<priority>(index));
}

void add_process(exposition& out, const process_facts& x) {
    out.family("kvferry_build_info", kind::gauge, "The release that runs; always 1.");
    out.sample({{"version", x.version}}, 1);
    out.family("process_open_fds", kind::gauge, "Descriptors that the process has open.");
    out.sample({}, x.descriptors_open);
    out.family("process_max_fds", kind::gauge,
               "Descriptors that it may open. Links are refused before they run out.");
    out.sample({}, x.descriptors_max);
    out.family("process_cpu_seconds_total", kind::counter, "Processor time of the process.");
    out.sample({}, x.cpu_seconds);
    out.family("process_resident_memory_bytes", kind::gauge, "Memory of the process in RAM.");
    out.sample({}, x.resident_bytes);
    out.family("process_start_time_seconds", kind::gauge, "When it began, since 1970.");
    out.sample({}, x.started_at);
}

void add_sessions(all_ranks& all) {
    const auto opened = [](const auto& x) {
        return now(x.sessions[static_cast<std::size_t>(session_count::opened)]);
    };
    all.each_side("kvferry_sessions_opened_total", kind::counter, "Sessions that were opened.",
                  opened);
    all.each_of(
        "kvferry_sessions_ended_total", kind::counter,
        "Sessions that have their outcome, by reason; none: success.", "errc",
        [](const auto& x) -> const auto& { return x.ended; }, errc_name);
    all.each_of(
        "kvferry_sessions", kind::gauge,
        "Sessions that are not forgotten, by state. After an outcome: they wait for the proof that "
        "their pages are free.",
        "state", [](const auto& x) -> const auto& { return x.states; }, state_name);
    all.each_side("kvferry_loans", kind::gauge, "Slices whose slots are on loan.",
                  [](const auto& x) { return now(x.loans); });
    all.each_side("kvferry_loan_bytes", kind::gauge, "Bytes of the slots on loan.",
                  [](const auto& x) { return now(x.loan_bytes); });
    all.each_side("kvferry_quarantined_bytes", kind::gauge,
                  "Bytes of slots on loan whose session has its outcome: proof is missing.",
                  [](const auto& x) { return now(x.quarantined_bytes); });
    all.each_of(
        "kvferry_requests_refused_total", kind::counter,
        "Requests, links and reports that this rank refused to peers, by reason.", "errc",
        [](const auto& x) -> const auto& { return x.refused; }, errc_name);
}

void add_bytes(all_ranks& all) {
    all.each_of(
        "kvferry_pieces_total", kind::counter, "Pieces that have arrived, by route.", "route",
        [](const auto& x) -> const auto& { return x.pieces; }, route_name);
    all.each_of(
        "kvferry_transferred_bytes_total", kind::counter,
        "Bytes of the cache that have arrived, by route.", "route",
        [](const auto& x) -> const auto& { return x.bytes; }, route_name);
    all.each_of(
        "kvferry_transferred_fragments_total", kind::counter,
        "Stretches that these bytes were made of, by route.", "route",
        [](const auto& x) -> const auto& { return x.fragments; }, route_name);
}

void add_classes(all_ranks& all) {
    all.each_of(
        "kvferry_class_pieces_total", kind::counter, "Pieces that have arrived, by priority.",
        "priority", [](const auto& x) -> const auto& { return x.class_pieces; }, class_name);
    all.each_of(
        "kvferry_class_bytes_total", kind::counter,
        "Bytes of the cache that have arrived, by priority.", "priority",
        [](const auto& x) -> const auto& { return x.class_bytes; }, class_name);
}

void add_messages(exposition& out, const std::vector<rank_facts>& ranks) {
    out.family("kvferry_retries_total", kind::counter, "What was tried again.");
    for (const auto& x : ranks)
        for (std::size_t index = 0; index < retried_count; ++index)
            out.sample({{"kv_instance", x.instance}, {"rank", x.rank}, {"what", retries[index]}},
                       x.counters->retries(static_cast<retried>(index)));
    out.family("kvferry_messages_ignored_total", kind::counter,
               "Messages of peers that changed nothing, by reason; reasons that occurred.");
    for (const auto& x : ranks) {
        std::map<std::string, std::uint64_t> reasons;
        x.counters->add_to(reasons);
        for (const auto& [reason, count] : reasons)
            out.sample({{"kv_instance", x.instance}, {"rank", x.rank}, {"reason", reason}}, count);
    }
}

/// The ranks of a process share one queue.
void add_spans(exposition& out, const std::vector<rank_facts>& ranks) {
    const auto found = std::find_if(ranks.begin(), ranks.end(),
                                    [](const auto& x) { return x.counters->spans != nullptr; });
    if (found == ranks.end())
        return;
    out.family("kvferry_spans_sent_total", kind::counter, "Spans that the collector has taken.");
    out.sample({}, found->counters->spans->sent());
    out.family("kvferry_spans_dropped_total", kind::counter,
               "Spans that were dropped: the collector is away, too slow, or refuses them.");
    out.sample({}, found->counters->spans->dropped());
}

void add_rank(exposition& out, all_ranks& all, const std::vector<rank_facts>& ranks) {
    out.family("kvferry_rank_phase", kind::gauge, "1 for the phase that the rank is in.");
    for (const auto& x : ranks)
        for (std::size_t index = 0; index < phase_names.size(); ++index)
            out.sample(
                {{"kv_instance", x.instance}, {"rank", x.rank}, {"phase", phase_names[index]}},
                static_cast<std::size_t>(now(x.counters->phase)) == index ? 1 : 0);
    all.each("kvferry_links", kind::gauge, "Links to peers that are not lost.",
             [](const auto& x) { return now(x.counters->links); });
    all.each("kvferry_puts", kind::gauge, "Puts through the fabric that have not ended.",
             [](const auto& x) { return now(x.counters->puts); });
    all.each("kvferry_puts_without_credit", kind::gauge,
             "Puts into memory on a device that wait for the target's credit.",
             [](const auto& x) { return now(x.counters->puts_without_credit); });
    all.each("kvferry_host_calls_waiting", kind::gauge,
             "Calls of the host that the rank has not taken up yet.",
             [](const auto& x) { return x.host_calls_waiting; });
    all.each("kvferry_callbacks_waiting", kind::gauge, "Callbacks of the host that wait or run.",
             [](const auto& x) { return x.callbacks_waiting; });
    all.each("kvferry_handler_failures_total", kind::counter,
             "Handlers and callbacks of the host that threw.",
             [](const auto& x) { return now(x.counters->handler_failures); });
    all.each("kvferry_actors_died_total", kind::counter,
             "Sessions, links, senders and receivers that died.",
             [](const auto& x) { return now(x.counters->actors_died); });
    all.each(
        "kvferry_relayed_bytes_total", kind::counter,
        "Bytes that other ranks of the instance have handed on, of what the context sends once.",
        [](const auto& x) { return now(x.counters->relayed_bytes); });
    all.each("kvferry_relays_given_up_total", kind::counter,
             "Sessions that asked the context after a rank of the instance had failed to hand on.",
             [](const auto& x) { return now(x.counters->relays_given_up); });
}

template <class Value>
void add_loops(exposition& out, const std::vector<rank_facts>& ranks, text name, text help,
               Value value) {
    out.family(name, kind::counter, help);
    for (const auto& x : ranks)
        for (const auto& loop : x.loops)
            out.sample({{"kv_instance", x.instance}, {"rank", x.rank}, {"loop", loop.name}},
                       value(loop));
}

void add_times(exposition& out, const std::vector<rank_facts>& ranks) {
    out.family("kvferry_session_seconds", kind::histogram, "From the opening to the outcome.");
    for (const auto& x : ranks)
        for (auto which : sides)
            out.histogram(
                {{"kv_instance", x.instance}, {"rank", x.rank}, {"side", to_string(which)}},
                x.counters->of(which).stages[static_cast<std::size_t>(stage::whole)]);
    out.family(
        "kvferry_stage_seconds", kind::histogram,
        "Where the time of sessions goes; plan, queue, copy and report are of single pieces.");
    for (const auto& x : ranks)
        for (auto which : sides)
            for (std::size_t index = 0; index < stage_count; ++index)
                if (knows(which, index))
                    out.histogram({{"kv_instance", x.instance},
                                   {"rank", x.rank},
                                   {"side", to_string(which)},
                                   {"stage", stages[index]}},
                                  x.counters->of(which).stages[index]);
}

} // namespace

std::string exposition_of(const process_facts& process, const std::vector<rank_facts>& ranks,
                          exposition::format as) {
    exposition out{as};
    all_ranks all{out, ranks};
    add_process(out, process);
    add_spans(out, ranks);
    add_rank(out, all, ranks);
    add_sessions(all);
    add_bytes(all);
    add_classes(all);
    add_messages(out, ranks);
    add_loops(out, ranks, "kvferry_loop_cpu_seconds_total", "Processor time of the rank's threads.",
              [](const auto& x) { return std::chrono::duration<double>(x.cpu_time).count(); });
    add_loops(out, ranks, "kvferry_loop_sleeps_total", "Times that a thread went to sleep.",
              [](const auto& x) { return x.sleeps; });
    add_loops(out, ranks, "kvferry_loop_wakes_total", "Times that another thread woke it.",
              [](const auto& x) { return x.wakes; });
    add_loops(out, ranks, "kvferry_loop_failures_total",
              "Callbacks, pollers and actors of the thread that threw.",
              [](const auto& x) { return x.failures; });
    add_times(out, ranks);
    return out.text();
}

} // namespace kvferry
