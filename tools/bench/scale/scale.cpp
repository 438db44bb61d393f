// SPDX-License-Identifier: Apache-2.0
// Sessions are opened and wait; then one event at a time is timed.
#include "tools/bench/scale/scale.hpp"

#include "actors/host/runtime.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "tools/bench/scale/scale_world.hpp"
#include "tools/common/text.hpp"
#include "transport/fabric/wired_fabric_actor.hpp"
#include "transport/loop/resident.hpp"

#include <caf/after.hpp>
#include <caf/scoped_actor.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <functional>
#include <optional>
#include <utility>

namespace kvferry::bench {

namespace {

/// Questions that are under way at a time while sessions are opened.
constexpr std::uint32_t opens_at_once = 1000;
/// Events that are timed together where one is too short.
constexpr std::uint32_t events = 200;
constexpr std::chrono::hours far_away{1};

/// Hears what sessions say and does nothing.
struct deaf_state {
    static inline constexpr const char* name = "observer";

    explicit deaf_state(observer_actor::pointer) {}

    observer_actor::behavior_type make_behavior() {
        return {[](const piece_finished&) {}, [](const session_ready&) {},
                [](const layers_arrived&) {}, [](const session_finished&) {},
                [](const session_released&) {}};
    }
};

class measurement {
public:
    measurement(caf::actor_system& system, scale_world& world)
        : system_(&system), world_(&world),
          observer_(spawn_at<observer_actor, deaf_state>(system, placement{})) {}

    caf::expected<scale_point> run(std::uint32_t sessions, std::uint32_t peers) {
        point_.sessions = sessions;
        point_.peers = peers;
        // The last peer is the bystander: its link comes up, its session goes again.
        auto& bystander = world_->peers().back();
        if (auto problem = open_at(bystander.endpoint))
            return problem;
        if (auto problem = wait_for_links(1))
            return problem;
        for (const auto& session : std::exchange(opened_, {}))
            tell_from_outside(session, cancel_request{});
        if (auto problem = open_sessions(sessions))
            return problem;
        if (auto problem = wait_for_links(std::min(sessions, peers) + 1))
            return problem;
        if (auto problem = time_all(bystander))
            return problem;
        return point_;
    }

private:
    caf::error open_at(const std::string& endpoint) {
        return open_many(1, [&endpoint](std::uint32_t) { return endpoint; });
    }

    caf::error open_sessions(std::uint32_t count) {
        const auto peers = static_cast<std::uint32_t>(world_->peers().size()) - 1;
        return open_many(count, [this, peers](std::uint32_t index) {
            return world_->peers()[index % peers].endpoint;
        });
    }

    caf::error open_many(std::uint32_t count,
                         const std::function<std::string(std::uint32_t)>& endpoint_of) {
        caf::scoped_actor self{*system_, true};
        caf::error problem;
        for (std::uint32_t done = 0; done < count && !problem;) {
            const auto batch = std::min(opens_at_once, count - done);
            for (std::uint32_t index = 0; index < batch; ++index)
                self->send(world_->own().worker, open_rx{{++requests_},
                                                         aux_mode::none,
                                                         endpoint_of(done + index),
                                                         0,
                                                         observer_,
                                                         far_away,
                                                         far_away});
            for (std::uint32_t index = 0; index < batch && !problem; ++index)
                self->receive(
                    [this](const rx_opened& opened) { opened_.push_back(opened.session); },
                    [&problem](caf::error& error) { problem = std::move(error); },
                    caf::after(std::chrono::minutes{1}) >>
                        [&problem] {
                            problem = make_error(errc::deadline_exceeded,
                                                 "a session was not opened in a minute");
                        });
            done += batch;
        }
        return problem;
    }

    caf::error wait_for_links(std::uint64_t count) {
        const auto until = clock::now() + std::chrono::minutes{1};
        for (;;) {
            auto counted = world_->settle();
            if (!counted)
                return std::move(counted.error());
            if (counted->links_live == count)
                return {};
            if (clock::now() > until)
                return make_error(errc::deadline_exceeded, "{} links after a minute, not {}",
                                  counted->links_live, count);
        }
    }

    /// Processor time of an event and all that follows from it, without that of waiting for it.
    caf::expected<double> time(const std::function<caf::error()>& event) {
        if (auto settled = world_->settle(); !settled)
            return std::move(settled.error());
        const auto before = world_->used();
        if (auto problem = event())
            return problem;
        if (auto settled = world_->settle(); !settled)
            return std::move(settled.error());
        const std::chrono::duration<double, std::micro> spent = world_->used() - before;
        return std::max(spent.count() - settling_us_, 0.0);
    }

    caf::error into(double& result, double divisor, const std::function<caf::error()>& event) {
        auto spent = time(event);
        if (!spent)
            return std::move(spent.error());
        result = *spent / divisor;
        return {};
    }

    caf::error time_all(scale_rank& bystander) {
        if (auto problem = into(settling_us_, 1, [] { return caf::error{}; }))
            return problem;
        const auto ask = [this]() -> caf::error {
            for (std::uint32_t round = 0; round < events / 20; ++round)
                if (auto answer = world_->settle(); !answer)
                    return std::move(answer.error());
            return {};
        };
        if (auto problem = into(point_.statistics_us, events, ask))
            return problem;
        const auto live = opened_.size();
        if (auto problem = into(point_.open_us, events, [this] { return open_sessions(events); }))
            return problem;
        // Where there were fewer sessions than peers, they have dialled the others.
        if (auto problem = wait_for_links(
                std::min<std::uint64_t>(std::max(point_.sessions, events), point_.peers) + 1))
            return problem;
        cancel_from(live);
        if (auto problem = into(point_.frame_us, events, [this] { return send_frames(); }))
            return problem;
        if (auto problem = time_loss(point_.bystander_lost_us, 1, bystander))
            return problem;
        const auto concerned = (point_.sessions + point_.peers - 1) / point_.peers;
        if (auto problem =
                time_loss(point_.lost_per_session_us, concerned, world_->peers().front()))
            return problem;
        return time_unbound();
    }

    /// How long it takes to hear of the loss is not measured.
    caf::error time_loss(double& result, double divisor, scale_rank& peer) {
        auto before = world_->settle();
        if (!before)
            return std::move(before.error());
        if (auto problem = into(result, divisor, [this, &peer] {
                world_->lose(peer);
                return caf::error{};
            }))
            return problem;
        return wait_for_links(before->links_live - 1);
    }

    caf::error time_unbound() {
        const auto silent = [this](std::uint32_t) { return world_->silent_endpoint(); };
        const auto live = opened_.size();
        if (auto problem = open_many(point_.sessions, silent))
            return problem;
        if (auto problem =
                into(point_.open_unbound_us, events, [&] { return open_many(events, silent); }))
            return problem;
        cancel_from(live);
        return {};
    }

    void cancel_from(std::size_t first) {
        for (auto index = first; index < opened_.size(); ++index)
            tell_from_outside(opened_[index], cancel_request{});
        opened_.resize(first);
    }

    /// Frames of the first peer that are older than its link: looked at and ignored.
    caf::error send_frames() {
        gone message;
        message.header.sender = world_->peers().front().info.incarnation;
        message.header.receiver = world_->own().info.incarnation;
        auto frame = encode(message, world_->bounds().message_bytes_max);
        if (!frame)
            return std::move(frame.error());
        const auto fabric = caf::actor_cast<wired_fabric_actor>(world_->own().fabric);
        for (std::uint32_t sent = 0; sent < events; ++sent)
            tell_from_outside(fabric, frame_arrived{*frame});
        return {};
    }

    caf::actor_system* system_;
    scale_world* world_;
    observer_actor observer_;
    scale_point point_;
    double settling_us_ = 0;
    std::uint64_t requests_ = 0;
    std::vector<rx_session_actor> opened_;
};

} // namespace

caf::expected<std::vector<scale_point>> measure_scale(const std::vector<std::uint32_t>& sessions,
                                                      const std::vector<std::uint32_t>& peers) {
    runtime actors;
    std::vector<scale_point> result;
    for (auto peer_count : peers)
        for (auto session_count : sessions) {
            auto world = scale_world::make(actors.system(), peer_count + 1);
            if (!world)
                return std::move(world.error());
            auto point = measurement{actors.system(), **world}.run(session_count, peer_count);
            const auto stopped = (*world)->stop(); // also after a failure: actors need their loops
            if (!point)
                return std::move(point.error());
            if (stopped)
                return stopped;
            result.push_back(*point);
        }
    return result;
}

std::string text_of(const std::vector<scale_point>& points) {
    using demo::align;
    std::vector<std::vector<std::string>> rows;
    for (const auto& x : points)
        rows.push_back({std::to_string(x.sessions), std::to_string(x.peers),
                        demo::tenths_text(x.open_us), demo::tenths_text(x.open_unbound_us),
                        demo::tenths_text(x.frame_us), demo::tenths_text(x.statistics_us),
                        demo::tenths_text(x.bystander_lost_us),
                        demo::tenths_text(x.lost_per_session_us)});
    std::string text = "Processor time of one rank's thread, in us\n\n";
    for (const auto& line : demo::format_table({{"sessions", align::right},
                                                {"peers", align::right},
                                                {"open", align::right},
                                                {"open, unbound", align::right},
                                                {"frame", align::right},
                                                {"statistics", align::right},
                                                {"bystander lost", align::right},
                                                {"lost, per session", align::right}},
                                               rows))
        text += line + "\n";
    return text;
}

std::string json_of(const std::vector<scale_point>& points) {
    nlohmann::ordered_json json{{"points", nlohmann::ordered_json::array()}};
    for (const auto& x : points)
        json["points"].push_back({{"sessions", x.sessions},
                                  {"peers", x.peers},
                                  {"open_us", x.open_us},
                                  {"open_unbound_us", x.open_unbound_us},
                                  {"frame_us", x.frame_us},
                                  {"statistics_us", x.statistics_us},
                                  {"bystander_lost_us", x.bystander_lost_us},
                                  {"lost_per_session_us", x.lost_per_session_us}});
    return json.dump();
}

} // namespace kvferry::bench
