// SPDX-License-Identifier: Apache-2.0
// The actor of the twin: hands everything to the network and keeps the deadlines.
#include "transport/loopback/loopback_host_link.hpp"

#include "messages/local/copies.hpp"
#include "messages/trace/handle.hpp"

#include <utility>

namespace kvferry {

namespace {

class loopback_host_link_state {
public:
    static inline constexpr const char* name = "loopback_host_link";

    loopback_host_link_state(host_link_actor::pointer self, loopback_host_link_dependencies with)
        : self_(self), with_(std::move(with)) {}

    ~loopback_host_link_state() { with_.network->leave(with_.self); }

    host_link_actor::behavior_type make_behavior() {
        return {
            handle(this, &loopback_host_link_state::on_share),
            handle(this, &loopback_host_link_state::on_dial),
            handle(this, &loopback_host_link_state::on_expect),
            handle(this, &loopback_host_link_state::on_close),
            handle(this, &loopback_host_link_state::on_stop),
        };
    }

private:
    void on_share(const share_region& message) { with_.network->share(with_.self, message); }

    void on_dial(const host_link_dial& message) {
        const auto number = with_.network->dial(with_.self, message);
        expire_after(message.deadline, message.peer, number);
    }

    void on_expect(const host_link_expect& message) {
        const auto number = with_.network->expect(with_.self, message);
        expire_after(message.deadline, message.peer, number);
    }

    void on_close(const host_link_close& message) {
        with_.network->close(with_.self, message.peer, message.owner);
    }

    void on_stop(const stop_io&) {
        with_.network->leave(with_.self);
        self_->quit();
    }

    void expire_after(std::chrono::milliseconds deadline, incarnation peer, std::uint64_t number) {
        if (number != 0)
            self_->run_delayed(deadline, [this, peer, number] {
                with_.network->expire(with_.self, peer, number);
            });
    }

    host_link_actor::pointer self_;
    loopback_host_link_dependencies with_;
};

} // namespace

caf::expected<host_link_actor> spawn_loopback_host_link(caf::actor_system& system, placement where,
                                                        loopback_host_link_dependencies with) {
    if (auto error = with.network->join(with.self, with.socket_name, with.token))
        return error;
    return spawn_at<host_link_actor, loopback_host_link_state>(system, where, std::move(with));
}

} // namespace kvferry
