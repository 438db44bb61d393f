// SPDX-License-Identifier: Apache-2.0
// The wire as a whole: its door, its connections, and the loop that polls them.
#include "transport/tcp/tcp_wire.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/forked_child.hpp"
#include "transport/tcp/tcp_connection.hpp"
#include "transport/tcp/tcp_context.hpp"
#include "transport/tcp/tcp_door.hpp"
#include "transport/tcp/tcp_sockets.hpp"

#include <algorithm>
#include <optional>
#include <random>
#include <utility>

namespace kvferry {

namespace {

/// Of a wire that nobody has come to.
constexpr int rounds_unlooked_max = 16;

/// By default: so many threads are as fast as most networks, twice as many where they encrypt, and
/// each is a descriptor on both sides.
constexpr std::size_t bulk_sockets_max = 4;

/// Polls a wire for its loop.
class wire_poller final : public loop_poller {
public:
    wire_poller(io_loop& loop, class tcp_wire& of) : loop_(loop), of_(&of) {}
    ~wire_poller() override { stop(); }

    caf::error start() {
        if (auto problem = loop_.add(*this))
            return problem;
        polled_ = true;
        return {};
    }
    void stop() noexcept {
        if (std::exchange(polled_, false))
            loop_.remove(*this);
    }

    bool progress() override;
    int event_fd() override;
    bool arm() override;

private:
    io_loop& loop_;
    tcp_wire* of_;
    bool polled_ = false;
};

class tcp_wire final : public wire {
public:
    tcp_wire(io_loop& loop, tcp_options with, std::unique_ptr<socket_poll> poll)
        : context_{.with = std::move(with), .poll = std::move(poll)}, poller_(loop, *this),
          in_child_(std::in_place, [fd = context_.poll->fd()] { let_go_of_polled(fd); }) {
        if (context_.with.threads > 1)
            context_.movers = std::make_unique<tcp_movers>(*context_.poll, context_.with.threads);
        if (context_.with.bulk_sockets == 0)
            context_.with.bulk_sockets = std::clamp<std::size_t>(
                context_.with.threads, 1, bulk_sockets_max * (context_.with.encrypts() ? 2 : 1));
        std::random_device random;
        for (auto& byte : context_.secret)
            byte = static_cast<std::uint8_t>(random());
    }
    ~tcp_wire() override { destroy(); }

    caf::error open() {
        auto door = tcp_door::make(context_);
        if (!door)
            return std::move(door.error());
        door_ = std::move(*door);
        context_.door = door_.get();
        if (context_.with.hosts.empty())
            context_.with.hosts = {context_.with.listen};
        address_ = pack_address({context_.secret, door_->port(), context_.with.hosts});
        return poller_.start();
    }

    void start(wire_user& user) override { context_.user = &user; }

    byte_buffer address() const override { return address_; }
    std::string transports() const override { return "tcp"; }
    std::string_view key_label() const override { return "tcp access key"; }
    /// Half of the reserve is for refusals, which need a connection to travel on.
    caf::error check_room() override { return check_descriptors(descriptors_reserve / 2); }

    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id id) override {
        auto to = parse_address(address);
        if (!to)
            return make_error(errc::dial_failed, text_of(to.error()));
        auto made = std::make_unique<tcp_connection>(context_, std::move(*to), peer, id);
        context_.connections.emplace(id, made.get());
        made->dial();
        return std::unique_ptr<wire_connection>{std::move(made)};
    }

    std::vector<wire_event> take_events() override { return std::exchange(context_.events, {}); }

    void progress() override { (void)round(); }

    void destroy() noexcept override {
        poller_.stop();
        in_child_.reset();
        if (context_.movers) { // nobody reads into pages any more, or out of them
            context_.movers->stop();
            context_.movers->give_back();
        }
        context_.user = nullptr;
        for (const auto& [id, x] : context_.connections)
            x->close(true);
        context_.retired.clear();
        if (door_)
            door_->let_go();
        context_.door = nullptr;
        door_.reset();
        context_.retired.clear();
    }

    /// True: there may be more to do at once.
    bool round() {
        if (!context_.user)
            return false;
        if (context_.movers)
            context_.movers->give_back();
        bool more = context_.user->on_progress();
        const auto has_slept = std::exchange(has_slept_, false);
        if (context_.user && is_time_to_look(has_slept) && context_.poll->dispatch(has_slept)) {
            if (context_.user)
                context_.user->on_progress();
            more =
                !context_.poll->is_quiet() || context_.poll->has_work() || !context_.events.empty();
        }
        context_.let_go_of_retired();
        if (door_)
            door_->let_go();
        return more;
    }
    /// Called before its loop sleeps.
    bool is_idle() {
        has_slept_ = true;
        return context_.events.empty() && !context_.poll->has_work()
               && (!context_.movers || context_.movers->may_sleep());
    }
    int fd() const { return context_.poll->fd(); }

private:
    /// A rank whose peers are all on its machine has nobody here but its door. It is looked at
    /// after each sleep, and now and then while the loop is busy: the system call of each round
    /// would be half of all that a request makes.
    bool is_time_to_look(bool has_slept) {
        if (context_.poll->watches() > 1 || context_.poll->has_work() || has_slept
            || ++rounds_unlooked_ >= rounds_unlooked_max) {
            rounds_unlooked_ = 0;
            return true;
        }
        return false;
    }

    tcp_context context_;
    std::unique_ptr<tcp_door> door_;
    /// Goes with the end of every put.
    byte_buffer address_;
    bool has_slept_ = false;
    int rounds_unlooked_ = 0;
    wire_poller poller_;
    std::optional<in_forked_child> in_child_;
};

bool wire_poller::progress() {
    return of_->round();
}

int wire_poller::event_fd() {
    return of_->fd();
}

bool wire_poller::arm() {
    return of_->is_idle();
}

} // namespace

caf::expected<std::unique_ptr<wire>> make_tcp_wire(io_loop& loop, tcp_options with) {
    auto poll = socket_poll::make();
    if (!poll)
        return std::move(poll.error());
    auto made = std::make_unique<tcp_wire>(loop, std::move(with), std::move(*poll));
    if (auto problem = made->open())
        return add_context(problem, "tcp wire");
    return std::unique_ptr<wire>{std::move(made)};
}

} // namespace kvferry
