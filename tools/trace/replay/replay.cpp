// SPDX-License-Identifier: Apache-2.0
// Shapes from who asked whom, slices from their tokens, steps from the order of the run.
#include "tools/trace/replay/replay.hpp"

#include "messages/errors.hpp"
#include "messages/trace/operations.hpp"
#include "messages/trace/trace.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/session_state.hpp"
#include "tools/trace/replay/course.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace kvferry::tracing {

namespace {

using nlohmann::json;
using kind = course_event::kind;
/// Ranks of senders that ranks of receivers ask.
using pairs = std::set<std::pair<std::uint32_t, std::uint32_t>>;

struct shape {
    std::uint32_t tp = 1;
    std::uint32_t pp = 1;
    bool attention_dp = false;
    std::uint32_t ranks() const { return tp * pp; }
    json to_json() const { return {{"tp", tp}, {"pp", pp}, {"attention_dp", attention_dp}}; }
};

/// The simulation's model has two layers and two heads.
constexpr std::array<shape, 4> shapes{{{1, 1}, {2, 1}, {1, 2}, {2, 2}}};

/// [index / count, (index + 1) / count) of two cuts have something in common.
bool meet(std::uint32_t a, std::uint32_t a_count, std::uint32_t b, std::uint32_t b_count) {
    return a * b_count < (b + 1) * a_count && b * a_count < (a + 1) * b_count;
}

pairs pairs_of(const shape& context, const shape& generation) {
    pairs result;
    for (std::uint32_t sender = 0; sender < context.ranks(); ++sender)
        for (std::uint32_t receiver = 0; receiver < generation.ranks(); ++receiver)
            if ((context.attention_dp
                 || meet(sender % context.tp, context.tp, receiver % generation.tp, generation.tp))
                && meet(sender / context.tp, context.pp, receiver / generation.tp, generation.pp))
                result.insert({sender, receiver});
    return result;
}

std::string instance_in(const std::string& rank) {
    return rank.substr(0, rank.rfind('/'));
}

/// A slice as number_of_slice() says it.
struct slice {
    std::uint32_t begin = 0;
    std::uint32_t end = 0;
    bool last = true;
};

slice slice_in(std::uint64_t number) {
    return {static_cast<std::uint32_t>(number >> 24) & 0xff'ffff,
            static_cast<std::uint32_t>(number) & 0xff'ffff, (number >> 48 & 1) != 0};
}

std::string text_of(const pairs& all) {
    std::string result;
    for (const auto& [sender, receiver] : all)
        result += (result.empty() ? "" : ", ") + std::to_string(receiver) + " asks "
                  + std::to_string(sender);
    return result;
}

class replayer {
public:
    explicit replayer(const flow& from) : from_(from) {}

    caf::expected<replay> make(std::optional<std::uint64_t> rid) {
        all_ = courses_of(from_);
        std::erase_if(all_, [&](const auto& each) {
            const auto& [request, x] = each;
            return (rid && request != *rid)
                   || std::none_of(x.events.begin(), x.events.end(),
                                   [](const auto& event) { return event.what == kind::open; });
        });
        if (all_.empty())
            return make_error(errc::invalid_argument, "no request was opened in this recording{}",
                              rid ? fmt::format(" with rid {}", *rid) : std::string{});
        if (auto problem = find_shapes())
            return problem;
        look_at_operations();
        json requests = json::array();
        for (const auto& [request, x] : all_)
            requests.push_back(request_of(request, x));
        result_.scenario = {{"kvferry_scenario", 1},
                            {"context", context_.to_json()},
                            {"generation", generation_.to_json()},
                            {"mapped", mapped_},
                            {"inline_copies", inline_},
                            {"requests", std::move(requests)}};
        return std::move(result_);
    }

private:
    caf::error find_shapes() {
        std::array<std::string, 2> instances;
        pairs asked;
        bool one_group = true;
        for (const auto& [request, x] : all_) {
            for (const auto& [who, name] : x.names) {
                auto& known = instances[who.receives];
                if (known.empty())
                    known = instance_in(name);
                if (known != instance_in(name))
                    return make_error(errc::invalid_argument,
                                      "requests go to and from more than two instances ({} and "
                                      "{}): choose one with --rid",
                                      known, instance_in(name));
            }
            std::set<std::uint32_t> senders;
            for (const auto& event : x.events)
                if (event.what == kind::open && !event.who.receives)
                    senders.insert(event.who.rank);
            std::size_t asked_here = 0;
            for (const auto& [between, names] : x.messages)
                if (between.first.receives
                    && std::find(names.begin(), names.end(), "request_data") != names.end()) {
                    asked.insert({between.second.rank, between.first.rank});
                    ++asked_here;
                }
            one_group = one_group && senders.size() == 1 && asked_here > 1;
        }
        const auto ranks_of = [&](const std::string& instance) {
            std::set<std::string> ranks;
            for (const auto& lane : from_.lanes)
                if (!instance.empty() && !lane.rank.empty() && instance_in(lane.rank) == instance)
                    ranks.insert(lane.rank);
            return std::max<std::size_t>(ranks.size(), 1);
        };
        const auto contexts = ranks_of(instances[0]);
        const auto generations = ranks_of(instances[1]);
        for (auto context : shapes)
            for (auto generation : shapes) {
                if (context.ranks() != contexts || generation.ranks() != generations)
                    continue;
                context.attention_dp = one_group && context.pp == 1 && contexts > generations;
                const auto would = pairs_of(context, generation);
                if (!std::includes(would.begin(), would.end(), asked.begin(), asked.end())
                    || (found_ && would.size() >= pairs_of(context_, generation_).size()))
                    continue;
                context_ = context;
                generation_ = generation;
                found_ = true;
            }
        if (!found_)
            return make_error(errc::invalid_argument,
                              "{} and {} ranks, where {}: the simulation has up to 2 TP ranks by 2 "
                              "stages on each side, and no such shapes",
                              contexts, generations, text_of(asked));
        return {};
    }

    void look_at_operations() {
        bool direct = false;
        for (const auto& x : from_.steps)
            if (x.what == trace::instant::io_begin) {
                staged_ = staged_ || x.message == trace::staged_put;
                direct = direct || staged_ || x.message == trace::direct_put;
                inline_ = inline_ || x.message == trace::inline_copy;
            }
        mapped_ = !direct;
        if (staged_)
            result_.notes.emplace_back("bytes went by the staged route, and go direct here");
    }

    json request_of(std::uint64_t request, const course& x) {
        json steps = json::array();
        std::uint32_t frames = 0;
        bool aux = false;
        std::optional<std::uint32_t> group;
        for (const auto& event : x.events) {
            if (event.what == kind::frame) {
                ++frames;
                continue;
            }
            constexpr std::array names{"open", "hand_over", "send_aux", "cancel"};
            steps.push_back({{"side", event.who.receives ? "generation" : "context"},
                             {"rank", event.who.rank},
                             {"do", names[static_cast<std::size_t>(event.what)]},
                             {"after_frames", frames}});
            aux = aux || event.what == kind::send_aux;
            if (event.what == kind::open && !event.who.receives)
                group = event.who.rank;
        }
        // Success with the record needs it on both sides, also where it was never sent.
        const auto whole = std::any_of(x.ends.begin(), x.ends.end(), [](const auto& end) {
            return end.second == to_string(session_state::fully_transferred);
        });
        const auto failed = std::any_of(x.ends.begin(), x.ends.end(), [](const auto& end) {
            return end.second.starts_with("ERROR") || end.second.starts_with("CANCELLED");
        });
        const auto [send_blocks, receive_blocks] = slices_of(x);
        const auto [context, generation] = deadlines_of(x, steps.size());
        json result{{"rid", request},
                    {"aux", aux || whole},
                    {"fails", failed},
                    {"send_blocks", send_blocks},
                    {"receive_blocks", receive_blocks},
                    {"context_deadline_us", context},
                    {"generation_deadline_us", generation},
                    {"steps", std::move(steps)}};
        if (context_.attention_dp && group)
            result["context_group"] = *group;
        return result;
    }

    /// Of the first rank of that side.
    std::vector<slice> slices_of(const course& x, bool receives) const {
        std::vector<slice> result;
        std::optional<party> who;
        for (const auto& event : x.events)
            if (event.what == kind::hand_over && event.who.receives == receives
                && event.who == who.value_or(event.who)) {
                who = event.who;
                result.push_back(slice_in(from_.steps[event.step].number));
            }
        return result;
    }

    /// Blocks of what was sent and of what was received, in the largest unit that cuts no slice.
    std::pair<std::vector<std::uint32_t>, std::vector<std::uint32_t>>
    slices_of(const course& x) const {
        const std::array both{slices_of(x, false), slices_of(x, true)};
        std::uint32_t unit = 0;
        std::uint32_t prompt = 0;
        for (const auto& slices : both)
            for (const auto& each : slices) {
                unit = std::gcd(std::gcd(unit, each.begin), each.end);
                prompt = std::max(prompt, each.end);
            }
        unit = std::max(unit, 1u);
        bool more = prompt == 0;
        for (const auto& slices : both)
            more = more || (!slices.empty() && !slices.back().last && slices.back().end == prompt);
        const auto blocks = prompt / unit + (more ? 1 : 0);
        const auto cut = [&](const std::vector<slice>& slices) {
            std::vector<std::uint32_t> result;
            std::uint32_t done = 0;
            for (const auto& each : slices)
                if (each.end / unit > done) {
                    result.push_back(each.end / unit - done);
                    done = each.end / unit;
                }
            if (done < blocks && !slices.empty() && slices.back().last)
                result.back() += blocks - done; // the other side speaks for more
            else if (done < blocks)
                result.push_back(blocks - done); // never handed over
            return result;
        };
        return {cut(both[0]), cut(both[1])};
    }

    /// Behind all steps where a session ended by its deadline, and behind everything elsewhere. The
    /// side whose deadline came first has the shorter one.
    std::pair<std::int64_t, std::int64_t> deadlines_of(const course& x, std::size_t steps) const {
        const auto behind_steps = 50'000 + 4'000 * static_cast<std::int64_t>(steps);
        std::array<std::int64_t, 2> result{20 * behind_steps, 20 * behind_steps};
        std::array<bool, 2> by_deadline{};
        for (const auto& [who, end] : x.ends)
            if (end == to_string(session_state::error) + ": " + to_string(errc::deadline_exceeded))
                by_deadline[who.receives] = true;
        if (by_deadline[0] && by_deadline[1]) {
            const auto first = std::size_t{x.ended.front().receives};
            result[first] = behind_steps;
            result[1 - first] = 2 * behind_steps;
        } else if (by_deadline[0] || by_deadline[1]) {
            result[by_deadline[1]] = behind_steps;
        }
        return {result[0], result[1]};
    }

    const flow& from_;
    std::map<std::uint64_t, course> all_;
    shape context_;
    shape generation_;
    bool found_ = false;
    bool mapped_ = true;
    bool staged_ = false;
    bool inline_ = false;
    replay result_;
};

} // namespace

caf::expected<replay> replay_of(const flow& from, std::optional<std::uint64_t> rid) {
    return replayer{from}.make(rid);
}

} // namespace kvferry::tracing
