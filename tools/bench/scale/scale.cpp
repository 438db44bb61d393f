// SPDX-License-Identifier: Apache-2.0
// Sessions are opened and wait; then one event at a time is timed.
#include "tools/bench/scale/scale.hpp"

#include "actors/host/runtime.hpp"
#include "messages/local/outcomes.hpp"
#include "messages/trace/handle.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "tools/bench/quantile.hpp"
#include "tools/bench/scale/scale_world.hpp"
#include "tools/common/text.hpp"
#include "transport/fabric/wired_fabric_actor.hpp"
#include "transport/loop/resident.hpp"

#include <caf/typed_actor.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <future>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

namespace kvferry::bench {

namespace {

/// Sessions that are being opened at a time.
constexpr std::uint32_t opens_at_once = 1000;
/// Events that are timed together where one is too short.
constexpr std::uint32_t events = 200;
/// Of which the median counts where others run on the same processor.
constexpr int rounds = 9;
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

/// Sessions that are being opened. The opener's thread has it until `done`.
struct batch {
    std::uint32_t left = 0;
    std::vector<rx_session_actor> opened = {};
    caf::error problem = {};
    std::promise<void> done = {};
};

using opener_actor = caf::typed_actor<caf::result<void>(open_rx)>;

/// Opens sessions from the rank's own thread, as the gates of a host's sessions do.
struct opener_state {
    static inline constexpr const char* name = "opener";

    opener_state(opener_actor::pointer self, transfer_worker_actor worker,
                 std::shared_ptr<batch> into)
        : self_(self), worker_(std::move(worker)), into_(std::move(into)) {}

    opener_actor::behavior_type make_behavior() { return {handle(this, &opener_state::on_open)}; }

    void on_open(open_rx& message) {
        ask(self_, worker_, std::move(message))
            .then(
                [this](rx_opened& opened) {
                    into_->opened.push_back(std::move(opened.session));
                    over();
                },
                [this](caf::error& why) {
                    into_->problem = std::move(why);
                    over();
                });
    }

    void over() {
        if (--into_->left == 0)
            into_->done.set_value();
    }

    opener_actor::pointer self_;
    transfer_worker_actor worker_;
    std::shared_ptr<batch> into_;
};

class measurement {
public:
    measurement(caf::actor_system& system, scale_world& world)
        : world_(&world), observer_(spawn_at<observer_actor, deaf_state>(system, placement{})),
          opener_(spawn_at<opener_actor, opener_state>(system, world.own_home(), world.own().worker,
                                                       batch_)) {}

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
        for (std::uint32_t done = 0; done < count;) {
            batch_->left = std::min(opens_at_once, count - done);
            batch_->done = {};
            auto all_are_open = batch_->done.get_future();
            for (std::uint32_t index = 0, last = batch_->left; index < last; ++index, ++done)
                tell_from_outside(opener_, open_rx{{++requests_},
                                                   aux_mode::none,
                                                   endpoint_of(done),
                                                   0,
                                                   observer_,
                                                   far_away,
                                                   far_away});
            if (all_are_open.wait_for(std::chrono::minutes{1}) != std::future_status::ready)
                return make_error(errc::deadline_exceeded, "a session was not opened in a minute");
            if (batch_->problem)
                return batch_->problem;
            std::move(batch_->opened.begin(), batch_->opened.end(), std::back_inserter(opened_));
            batch_->opened.clear();
        }
        return {};
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

    /// The median of several rounds; `undo` is not timed.
    caf::error into_median(double& result, double divisor, const std::function<caf::error()>& event,
                           const std::function<caf::error()>& undo) {
        std::vector<double> all(rounds);
        for (auto& each : all) {
            if (auto problem = into(each, divisor, event))
                return problem;
            if (auto problem = undo())
                return problem;
        }
        result = median(std::move(all));
        return {};
    }

    caf::error time_all(scale_rank& bystander) {
        const auto nothing = [] { return caf::error{}; };
        double settling_us = 0;
        if (auto problem = into_median(settling_us, 1, nothing, nothing))
            return problem;
        settling_us_ = settling_us;
        const auto ask = [this]() -> caf::error {
            for (std::uint32_t round = 0; round < events / 20; ++round)
                if (auto answer = world_->settle(); !answer)
                    return std::move(answer.error());
            return {};
        };
        if (auto problem = into(point_.statistics_us, events, ask))
            return problem;
        const auto live = opened_.size();
        const auto end_those = [this, live] {
            // Where there were fewer sessions than peers, they have dialled the others.
            auto problem = wait_for_links(
                std::min<std::uint64_t>(std::max(point_.sessions, events), point_.peers) + 1);
            cancel_from(live);
            return problem;
        };
        if (auto problem = into_median(
                point_.open_us, events, [this] { return open_sessions(events); }, end_those))
            return problem;
        if (auto problem = into(point_.frame_us, events, [this] { return send_frames(); }))
            return problem;
        if (auto problem = time_loss(point_.bystander_lost_us, bystander))
            return problem;
        point_.lost_sessions = (point_.sessions + point_.peers - 1) / point_.peers;
        if (auto problem = time_loss(point_.lost_us, world_->peers().front()))
            return problem;
        return time_unbound();
    }

    /// How long it takes to hear of the loss is not measured.
    caf::error time_loss(double& result, scale_rank& peer) {
        auto before = world_->settle();
        if (!before)
            return std::move(before.error());
        if (auto problem = into(result, 1, [this, &peer] {
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
        const auto waiting = opened_.size();
        const auto end_those = [this, waiting] {
            cancel_from(waiting);
            return caf::error{};
        };
        if (auto problem = into_median(
                point_.open_unbound_us, events, [&] { return open_many(events, silent); },
                end_those))
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

    scale_world* world_;
    observer_actor observer_;
    std::shared_ptr<batch> batch_ = std::make_shared<batch>();
    opener_actor opener_;
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
    const auto bounded = [](double x, double most) {
        return demo::tenths_text(x) + (x > most ? " >" : "  ");
    };
    std::vector<std::vector<std::string>> rows;
    for (const auto& x : points)
        rows.push_back({std::to_string(x.sessions), std::to_string(x.peers),
                        bounded(x.open_us, open_us_max), demo::tenths_text(x.open_unbound_us),
                        demo::tenths_text(x.frame_us), bounded(x.statistics_us, statistics_us_max),
                        bounded(x.bystander_lost_us, lost_us_max(0)),
                        std::to_string(x.lost_sessions),
                        bounded(x.lost_us, lost_us_max(x.lost_sessions))});
    std::string text = "Processor time of one rank's thread, in us\n\n";
    for (const auto& line : demo::format_table({{"sessions", align::right},
                                                {"peers", align::right},
                                                {"open", align::right},
                                                {"open, unbound", align::right},
                                                {"frame", align::right},
                                                {"statistics", align::right},
                                                {"bystander lost", align::right},
                                                {"its sessions", align::right},
                                                {"peer lost", align::right}},
                                               rows))
        text += line + "\n";
    return text + "\nAt most wanted, with > behind what is more: open "
           + demo::tenths_text(open_us_max) + ", statistics " + demo::tenths_text(statistics_us_max)
           + ", a peer lost " + demo::tenths_text(lost_us_max(0))
           + " and 1.0 for each of its sessions.\n";
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
                                  {"lost_us", x.lost_us},
                                  {"lost_us_max", lost_us_max(x.lost_sessions)},
                                  {"lost_sessions", x.lost_sessions}});
    json["open_us_max"] = open_us_max;
    json["statistics_us_max"] = statistics_us_max;
    return json.dump();
}

} // namespace kvferry::bench
