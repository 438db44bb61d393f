// SPDX-License-Identifier: Apache-2.0
// UCX as a wire of the fabric: nothing else of the runtime calls UCX.
#include "transport/ucx/ucx_wire.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_worker.hpp"

#include <chrono>
#include <map>
#include <set>

namespace kvferry {

namespace {

/// How long UCX may take to end the operations of a broken endpoint.
constexpr std::chrono::seconds lost_operations_grace{1};

/// How long after connect() UCX may still open connections for it.
constexpr std::chrono::milliseconds connections_settle{50};

/// UCX tells nobody that it has closed a port.
constexpr std::chrono::seconds port_check_interval{1};

class ucx_wire final : public wire {
public:
    ucx_wire(std::unique_ptr<ucx_worker> worker, put_method puts)
        : worker_(std::move(worker)), puts_(puts) {}

    void start(wire_user& user) override {
        user_ = &user;
        worker_->start([&user](fabric_message what, byte_view head,
                               byte_view payload) { user.arrived(what, head, payload); },
                       [&user] { return user.on_progress(); });
        watch_ports();
    }

    byte_buffer address() const override { return worker_->address(); }
    std::string transports() const override { return worker_->transports(); }
    std::string_view key_label() const override { return "ucx access key"; }
    /// Without the RMA feature no access key has an RMA key inside: peers can only send messages.
    bool by_message() const override { return !worker_->has_rma(); }
    /// Half of the reserve is for refusals, which need an endpoint to travel on.
    caf::error check_room() override { return check_descriptors(descriptors_reserve / 2); }

    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id) override;
    caf::expected<byte_buffer> map(region_id, const register_region&) override;
    void unmap(region_id id) override { regions_.erase(id); }

    std::vector<wire_event> take_events() override;
    void progress() override { worker_->progress(); }
    void destroy() noexcept override;

private:
    void translate(const ucx_event&, ucx_endpoint&, std::vector<wire_event>& to);
    caf::error why_broken(const ucx_event&) const;
    void guard_connections();
    void watch_ports();

    std::unique_ptr<ucx_worker> worker_;
    put_method puts_;
    wire_user* user_ = nullptr;
    std::map<endpoint_id, incarnation> peers_;
    /// Endpoints that UCX has reported as broken.
    std::set<endpoint_id> lost_;
    std::map<region_id, ucx_mapped_memory> regions_;
    /// New connections are about to be made close-on-exec.
    bool guarding_ = false;
};

caf::expected<std::unique_ptr<wire_connection>>
ucx_wire::connect(incarnation peer, byte_view address, endpoint_id id) {
    auto made = worker_->connect(address, id);
    if (!made)
        return std::move(made.error());
    auto& endpoint = **made;
    if (worker_->has_rma() && (puts_ == put_method::rma || endpoint.has_rma_lane()))
        endpoint.use_rma();
    peers_.emplace(id, peer);
    guard_connections();
    return std::unique_ptr<wire_connection>{std::move(*made)};
}

caf::expected<byte_buffer> ucx_wire::map(region_id id, const register_region& region) {
    if (!worker_->has_rma())
        return byte_buffer{};
    auto mapped = worker_->map(region.base, region.bytes, region.kind == memory_kind::cuda);
    if (!mapped)
        return std::move(mapped.error());
    auto key = worker_->pack_key(*mapped);
    if (key)
        regions_.emplace(id, std::move(*mapped));
    return key;
}

std::vector<wire_event> ucx_wire::take_events() {
    std::vector<wire_event> result;
    auto& all = worker_->endpoints();
    for (const auto& event : std::exchange(worker_->events(), {}))
        if (auto found = all.find(event.endpoint); found != all.end())
            translate(event, *found->second, result);
    return result;
}

/// UCX ends the operations of a broken endpoint by itself, and the endpoint is closed after the
/// last one: UCX 1.13 aborts the process when it ends an operation over TCP that a forced close has
/// already ended. A timer closes the endpoint even if UCX forgets an operation.
void ucx_wire::translate(const ucx_event& event, ucx_endpoint& endpoint,
                         std::vector<wire_event>& to) {
    const auto id = event.endpoint;
    endpoint.note(event);
    if (event.what == ucx_event::kind::sent && event.tag != 0)
        to.push_back({wire_event::kind::posted, id, event.tag});
    if (event.status != UCS_OK && event.what != ucx_event::kind::closed) {
        if (lost_.insert(id).second) {
            to.push_back({wire_event::kind::broken, id, 0, why_broken(event)});
            user_->after(lost_operations_grace, [this, id] {
                auto& all = worker_->endpoints();
                if (auto late = all.find(id); late != all.end())
                    late->second->close(true);
            });
        }
    } else if (event.what == ucx_event::kind::flushed) {
        to.push_back({wire_event::kind::flushed, id, event.tag});
    }
    if (lost_.contains(id) && endpoint.is_broken_and_quiet())
        endpoint.close(true);
    if (endpoint.is_over()) {
        to.push_back({wire_event::kind::closed, id});
        lost_.erase(id);
        peers_.erase(id);
    }
}

caf::error ucx_wire::why_broken(const ucx_event& event) const {
    const auto peer = peers_.find(event.endpoint);
    auto text =
        text_of(ucx_error("endpoint to incarnation "
                              + (peer == peers_.end() ? std::string{"?"} : to_string(peer->second)),
                          event.status));
    if (event.status == UCS_ERR_UNREACHABLE || event.status == UCS_ERR_TIMED_OUT
        || event.status == UCS_ERR_ENDPOINT_TIMEOUT)
        text += "; this rank uses " + worker_->networks()
                + ": bind_address, advertise or UCX_NET_DEVICES chooses others";
    return make_error(errc::link_lost, std::move(text));
}

/// UCX opens the connection at once, and may open more while the two sides agree on their lanes.
void ucx_wire::guard_connections() {
    if (std::exchange(guarding_, true))
        return;
    worker_->guard_connections();
    user_->after(connections_settle, [this] {
        guarding_ = false;
        worker_->guard_connections();
    });
}

void ucx_wire::watch_ports() {
    if (!worker_->has_ports())
        return;
    if (worker_->closed_ports() != 0)
        logger().error(
            "UCX has closed the port at which peers reach this rank, because the "
            "process had no descriptor left. Links that are up go on, others cannot come "
            "up: start the rank again, with a higher limit (ulimit -n, LimitNOFILE)");
    user_->after(port_check_interval, [this] { watch_ports(); });
}

/// Keys and regions go before their worker, endpoints after it. Only the worker's destroy(): the
/// object may be our caller.
void ucx_wire::destroy() noexcept {
    for (const auto& [id, endpoint] : worker_->endpoints())
        endpoint->forget_keys();
    regions_.clear();
    worker_->destroy();
}

} // namespace

caf::expected<std::unique_ptr<wire>> make_ucx_wire(io_loop& loop, ucx_wire_options with) {
    auto worker = ucx_worker::make(loop, with.puts, std::move(with.net_devices), with.tcp);
    if (!worker)
        return std::move(worker.error());
    return std::unique_ptr<wire>{std::make_unique<ucx_wire>(std::move(*worker), with.puts)};
}

} // namespace kvferry
