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
#include <span>
#include <utility>
#include <vector>

namespace kvferry::bench {

namespace {

/// Sessions that are being opened at a time.
constexpr std::uint32_t opens_at_once = 1000;
/// Events that are timed together where one is too short.
constexpr std::uint32_t events = 200;
/// Of which the median counts where others run on the same processor.
constexpr int rounds = 9;
/// At most such a part of all peers is lost for a median: sessions beside them are to stay many.
constexpr std::uint32_t peers_for_one_lost = 10;
constexpr std::chrono::hours far_away{1};

/// Hears what sessions say, on the rank's own thread as gates do, and does nothing.
struct deaf_state {
    static inline constexpr const char* name = "observer";

    explicit deaf_state(observer_actor::pointer) {}

    observer_actor::behavior_type make_behavior() {
        return {handle(this, &deaf_state::hear<piece_finished>),
                handle(this, &deaf_state::hear<session_ready>),
                handle(this, &deaf_state::hear<layers_arrived>),
                handle(this, &deaf_state::hear<session_finished>),
                handle(this, &deaf_state::hear<session_released>)};
    }

    template <class Message>
    void hear(const Message&) {}
};

/// Sessions that are being opened. The opener's thread has it until `done`.
struct batch {
    std::uint32_t left = 0;
    std::vector<rx_session_actor> opened = {};
    caf::error problem = {};
    /// Processor time of the rank's thread from the first question until all that followed from the
    /// last has been done.
    std::optional<std::chrono::nanoseconds> began = {};
    std::chrono::nanoseconds spent{0};
    std::promise<void> done = {};
};

using opener_actor = caf::typed_actor<caf::result<void>(open_rx)>;

/// Opens sessions from the rank's own thread, as the gates of a host's sessions do.
struct opener_state {
    static inline constexpr const char* name = "opener";

    opener_state(opener_actor::pointer self, scale_world& world, std::shared_ptr<batch> into)
        : self_(self), world_(&world), into_(std::move(into)) {}

    opener_actor::behavior_type make_behavior() { return {handle(this, &opener_state::on_open)}; }

    void on_open(open_rx& message) {
        if (!into_->began)
            into_->began = world_->used();
        ask(self_, world_->own().openers->receiver, std::move(message))
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
            world_->behind_all([into = into_, world = world_] {
                into->spent = world->used() - *into->began;
                into->done.set_value();
            });
    }

    opener_actor::pointer self_;
    scale_world* world_;
    std::shared_ptr<batch> into_;
};

class measurement {
public:
    measurement(caf::actor_system& system, scale_world& world)
        : world_(&world), observer_(spawn_at<observer_actor, deaf_state>(system, world.own_home())),
          opener_(spawn_at<opener_actor, opener_state>(system, world.own_home(), world, batch_)) {}

    caf::expected<scale_point> run(std::uint32_t sessions, std::uint32_t peers) {
        point_.sessions = sessions;
        point_.peers = peers;
        // The last peers are bystanders: their links come up, their sessions go again.
        if (auto problem = open_many(
                rounds, [this](std::uint32_t index) { return bystanders()[index].endpoint; }))
            return problem;
        if (auto problem = wait_for_links(rounds))
            return problem;
        cancel_from(0);
        if (auto problem = open_sessions(sessions))
            return problem;
        if (auto problem = wait_for_links(std::min(sessions, peers) + rounds))
            return problem;
        if (auto problem = time_all())
            return problem;
        return point_;
    }

private:
    std::span<scale_rank> bystanders() { return std::span{world_->peers()}.last(rounds); }

    caf::error open_sessions(std::uint32_t count) {
        return open_many(count, [this](std::uint32_t index) {
            return world_->peers()[index % point_.peers].endpoint;
        });
    }

    caf::error open_many(std::uint32_t count,
                         const std::function<std::string(std::uint32_t)>& endpoint_of) {
        for (std::uint32_t done = 0; done < count;) {
            batch_->left = std::min(opens_at_once, count - done);
            batch_->began.reset();
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

    /// Processor time of an event and all that follows from it, without that of waiting for it,
    /// which is what waiting has taken just before.
    caf::expected<double> time(const std::function<caf::error()>& event) {
        using us = std::chrono::duration<double, std::micro>;
        const auto settled = [this]() -> caf::expected<us> {
            const auto before = world_->used();
            if (auto answer = world_->settle(); !answer)
                return std::move(answer.error());
            return us{world_->used() - before};
        };
        if (auto first = settled(); !first) // with what has been going on
            return std::move(first.error());
        auto waiting = settled();
        if (!waiting)
            return std::move(waiting.error());
        const auto before = world_->used();
        if (auto problem = event())
            return problem;
        if (auto last = settled(); !last)
            return std::move(last.error());
        return std::max((us{world_->used() - before} - *waiting).count(), 0.0);
    }

    /// Processor time of opening those sessions, on the rank's thread from the first of them on.
    caf::error into_median_open(double& result, const std::function<caf::error()>& open,
                                const std::function<caf::error()>& undo) {
        std::vector<double> all(rounds);
        for (auto& each : all) {
            if (auto settled = world_->settle(); !settled)
                return std::move(settled.error());
            if (auto problem = open())
                return problem;
            each = std::chrono::duration<double, std::micro>{batch_->spent}.count() / events;
            if (auto problem = undo())
                return problem;
        }
        result = median(std::move(all));
        return {};
    }

    caf::error into(double& result, double divisor, const std::function<caf::error()>& event) {
        auto spent = time(event);
        if (!spent)
            return std::move(spent.error());
        result = *spent / divisor;
        return {};
    }

    caf::error time_all() {
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
                std::min<std::uint64_t>(std::max(point_.sessions, events), point_.peers) + rounds);
            cancel_from(live);
            return problem;
        };
        if (auto problem = into_median_open(
                point_.open_us, [this] { return open_sessions(events); }, end_those))
            return problem;
        if (auto problem = into(point_.frame_us, events, [this] { return send_frames(); }))
            return problem;
        if (auto problem = time_losses(point_.bystander_lost_us, bystanders()))
            return problem;
        point_.lost_sessions = (point_.sessions + point_.peers - 1) / point_.peers;
        const auto lost = std::clamp<std::size_t>(point_.peers / peers_for_one_lost, 1, rounds);
        if (auto problem = time_losses(point_.lost_us, std::span{world_->peers()}.first(lost)))
            return problem;
        return time_unbound();
    }

    /// The median.
    caf::error time_losses(double& result, std::span<scale_rank> peers) {
        std::vector<double> all(peers.size());
        for (std::size_t index = 0; index < all.size(); ++index)
            if (auto problem = time_loss(all[index], peers[index]))
                return problem;
        result = median(std::move(all));
        return {};
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
        if (auto problem = into_median_open(
                point_.open_unbound_us, [&] { return open_many(events, silent); }, end_those))
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
            auto world = scale_world::make(actors.system(), peer_count + rounds);
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
