// SPDX-License-Identifier: Apache-2.0
// Slices, flows and counters, and the rules that a file must obey.
#include "tools/trace/pictures/perfetto.hpp"

#include <algorithm>
#include <map>
#include <ostream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace kvferry::tracing {

namespace {

using nlohmann::json;
using trace::instant;

/// Writes one event after the other, so that a file takes no memory. Keys are in the order in which
/// they are given; numbers of microseconds have three decimals, which are nanoseconds.
class event_writer {
public:
    explicit event_writer(std::ostream& out) : out_(out) { out_ << "{\"traceEvents\":["; }
    ~event_writer() { out_ << "],\"displayTimeUnit\":\"ns\"}\n"; }
    event_writer(const event_writer&) = delete;
    event_writer& operator=(const event_writer&) = delete;

    event_writer& begin(char phase, int pid, std::size_t tid, std::string_view name) {
        out_ << (std::exchange(any_, true) ? ",\n" : "\n") << "{\"ph\":\"" << phase
             << "\",\"pid\":" << pid << ",\"tid\":" << tid << ",\"name\":";
        return add_text(name);
    }
    event_writer& at(std::int64_t ns) { return add_time(",\"ts\":", ns); }
    event_writer& lasts(std::int64_t ns) { return add_time(",\"dur\":", ns); }
    event_writer& category(const char* name) {
        out_ << ",\"cat\":\"" << name << '"';
        return *this;
    }
    event_writer& id(std::size_t number) {
        out_ << ",\"id\":" << number;
        return *this;
    }
    /// The end of an arrow is the slice around it.
    event_writer& at_slice() {
        out_ << ",\"bp\":\"e\"";
        return *this;
    }
    template <class Value>
    event_writer& argument(std::string_view name, const Value& value) {
        out_ << (std::exchange(arguments_, true) ? "," : ",\"args\":{");
        add_text(name);
        out_ << ':';
        if constexpr (std::is_arithmetic_v<Value>)
            out_ << value;
        else
            add_text(value);
        return *this;
    }
    void end() { out_ << (std::exchange(arguments_, false) ? "}}" : "}"); }

private:
    event_writer& add_text(std::string_view text) {
        out_ << json(text).dump(-1, ' ', false, json::error_handler_t::replace);
        return *this;
    }
    event_writer& add_time(const char* key, std::int64_t ns) {
        const auto size = static_cast<std::uint64_t>(ns < 0 ? -ns : ns);
        const auto rest = std::to_string(size % 1000);
        out_ << key << (ns < 0 ? "-" : "") << size / 1000 << '.'
             << std::string(3 - rest.size(), '0') << rest;
        return *this;
    }

    std::ostream& out_;
    bool any_ = false;
    bool arguments_ = false;
};

/// One pass over the steps.
class perfetto_writer {
public:
    perfetto_writer(std::ostream& out, const flow& from) : out_(out), from_(from) {}

    void write() {
        for (std::size_t i = 0; i < from_.lanes.size(); ++i) {
            const auto& x = from_.lanes[i];
            pids_.push_back(process_of(x));
            out_.begin('M', pids_.back(), i + 1, "thread_name")
                .argument("name", x.actor + " " + std::to_string(x.actor_id))
                .end();
        }
        for (std::size_t index = 0; index < from_.steps.size(); ++index)
            write(index, from_.steps[index]);
    }

private:
    int process_of(const lane& x) {
        const auto [place, fresh] =
            processes_.try_emplace({x.process, x.rank}, static_cast<int>(processes_.size()) + 1);
        if (fresh)
            out_.begin('M', place->second, 0, "process_name")
                .argument("name", x.rank.empty() ? from_.recordings[x.process].program : x.rank)
                .end();
        return place->second;
    }

    event_writer& slice(char phase, const step& x) {
        return out_.begin(phase, pids_[x.lane], x.lane + 1, x.message).at(x.time_ns);
    }

    void add_arguments(const step& x) {
        if (x.rid != 0)
            out_.argument("rid", std::to_string(x.rid));
        if (x.attempt != 0)
            out_.argument("attempt", std::to_string(x.attempt));
    }

    /// Both ends have the name of the message, which the arrow shows.
    void arrow(char phase, const step& x, std::size_t id) {
        auto& end = out_.begin(phase, pids_[x.lane], x.lane + 1, from_.steps[id].message)
                        .at(x.time_ns)
                        .category("message")
                        .id(id + 1);
        (phase == 'f' ? end.at_slice() : end).end();
    }

    void count(int pid, const step& x, const char* name, std::int64_t value) {
        out_.begin('C', pid, 0, name).at(x.time_ns).argument(name, value).end();
    }

    void write(std::size_t index, const step& x) {
        const auto pid = pids_[x.lane];
        switch (x.what) {
        case instant::dequeued:
            slice('X', x).category("handler").lasts(
                x.effect == no_step ? 0 : from_.steps[x.effect].time_ns - x.time_ns);
            add_arguments(x);
            out_.end();
            if (x.cause != no_step) {
                arrow('f', x, x.cause);
                count(pid, x, "messages waiting", --waiting_[pid]);
            }
            break;
        case instant::io_begin:
            // Operations overlap, so they get tracks of their own beside the actor's handlers.
            slice('b', x).category("operation").id(index + 1).argument("bytes", x.number);
            add_arguments(x);
            out_.end();
            count(pid, x, "bytes moving", moving_[pid] += static_cast<std::int64_t>(x.number));
            break;
        case instant::io_end:
            if (x.cause == no_step)
                break;
            slice('e', x).category("operation").id(x.cause + 1).end();
            count(pid, x, "bytes moving",
                  moving_[pid] -= static_cast<std::int64_t>(from_.steps[x.cause].number));
            break;
        case instant::sent:
        case instant::asked:
        case instant::wire_sent:
        case instant::wire_received:
        case instant::answered:
            write_message(index, x);
            break;
        default:
            break;
        }
    }

    /// A slice of length zero: an arrow must begin at a slice.
    void write_message(std::size_t index, const step& x) {
        slice('X', x).category("send").lasts(0);
        add_arguments(x);
        out_.end();
        if (x.what == instant::wire_received && x.cause != no_step)
            arrow('f', x, x.cause);
        if (x.effect == no_step || x.what == instant::wire_received || x.what == instant::answered)
            return;
        arrow('s', x, index);
        if (x.what != instant::wire_sent) {
            const auto there = pids_[from_.steps[x.effect].lane];
            count(there, x, "messages waiting", ++waiting_[there]);
        }
    }

    event_writer out_;
    const flow& from_;
    std::map<std::pair<std::size_t, std::string>, int> processes_;
    std::vector<int> pids_;
    std::map<int, std::int64_t> waiting_, moving_;
};

} // namespace

void write_perfetto(std::ostream& out, const flow& from) {
    perfetto_writer{out, from}.write();
}

std::vector<std::string> problems_of_perfetto(const json& file) {
    std::vector<std::string> problems;
    if (!file.is_object() || !file.contains("traceEvents") || !file.at("traceEvents").is_array())
        return {"no list traceEvents"};
    std::map<std::string, std::pair<int, int>> flows, operations;
    std::map<std::pair<json, json>, std::vector<std::pair<double, double>>> slices;
    for (const auto& x : file.at("traceEvents"))
        if (x.is_object() && x.value("ph", "") == "X")
            slices[{x.value("pid", json{}), x.value("tid", json{})}].emplace_back(
                x.value("ts", 0.0), x.value("ts", 0.0) + x.value("dur", 0.0));
    std::size_t number = 0;
    for (const auto& x : file.at("traceEvents")) {
        const auto where = "event " + std::to_string(number++);
        if (!x.contains("ph") || !x.contains("pid") || !x.contains("name")) {
            problems.push_back(where + " lacks ph, pid or name");
            continue;
        }
        const auto phase = x.at("ph").get<std::string>();
        if (phase != "M" && (!x.contains("ts") || !x.at("ts").is_number() || x.at("ts") < 0))
            problems.push_back(where + " has no time");
        if (phase == "X" && (!x.contains("dur") || x.at("dur") < 0))
            problems.push_back(where + " is a slice without a length");
        if (phase == "s" || phase == "f" || phase == "b" || phase == "e") {
            if (!x.contains("id") || !x.contains("cat")) {
                problems.push_back(where + " lacks id or cat");
                continue;
            }
            auto& pair = (phase == "s" || phase == "f" ? flows : operations)[x.at("id").dump()];
            ++(phase == "s" || phase == "b" ? pair.first : pair.second);
            const auto thread = std::pair{x.at("pid"), x.value("tid", json{})};
            const auto& track = slices[thread];
            const auto time = x.value("ts", 0.0);
            if ((phase == "s" || phase == "f")
                && std::none_of(track.begin(), track.end(), [time](const auto& slice) {
                       return slice.first <= time && time <= slice.second;
                   }))
                problems.push_back(where + " is an arrow's end outside of any slice");
        } else if (phase != "M" && phase != "X" && phase != "C") {
            problems.push_back(where + " has the unknown phase " + phase);
        }
    }
    for (const auto& [id, pair] : flows)
        if (pair != std::pair{1, 1})
            problems.push_back("flow " + id + " has " + std::to_string(pair.first) + " starts and "
                               + std::to_string(pair.second) + " ends");
    for (const auto& [id, pair] : operations)
        if (pair.first != 1 || pair.second > 1)
            problems.push_back("operation " + id + " has " + std::to_string(pair.first)
                               + " beginnings and " + std::to_string(pair.second) + " ends");
    return problems;
}

} // namespace kvferry::tracing
