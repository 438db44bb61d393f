// SPDX-License-Identifier: Apache-2.0
// The facade's calls, as messages to the rank's transfer worker.
#include "actors/host/worker.hpp"

#include "actors/host/host_actor.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/local/recycled.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/short_lived.hpp"
#include "transport/planner/layout/topology.hpp"

#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// What a host is told of a session that its rank never heard of.
session_finished refusal(side role, rid request, const caf::error& why) {
    return {.role = role, .request = request, .state = session_state::error, .error = why};
}

/// Outcome and release resolve at once, and the callbacks are called with them.
template <class Handle>
Handle refuse_session(callback_runner& callbacks, session_options&& options, side role,
                      const std::shared_ptr<host_calls>& calls, const caf::error& why) {
    auto promises = std::make_shared<session_promises>();
    Handle result{nullptr, options.request, session_gate_actor{}, promises, calls};
    const auto outcome = refusal(role, options.request, why);
    const session_released released{role, options.request, {}};
    promises->outcome.set_value(outcome);
    promises->released.set_value(released);
    if (options.on_outcome || options.on_released)
        callbacks.run({[on_outcome = std::move(options.on_outcome),
                        on_released = std::move(options.on_released), outcome, released] {
                           if (on_outcome)
                               on_outcome(outcome);
                           if (on_released)
                               on_released(released);
                       },
                       released.request});
    return result;
}

} // namespace

caf::error worker::parts::moved_away() {
    return make_error(errc::stopped, "this worker was moved away: call the one it was moved to");
}

caf::expected<worker> worker::start(caf::actor_system& system, worker_options options) {
    return start_on(nullptr, system, std::move(options));
}

caf::expected<worker> worker::start_on(std::shared_ptr<void> owner, caf::actor_system& system,
                                       worker_options options) {
    if (auto problem = process_life::check())
        return problem;
    process_life::begin();
    const call_that_spawns here;
    auto made = std::make_shared<parts>();
    made->owner = std::move(owner);
    made->system = &system;
    made->options = std::move(options);
    if (auto problem = made->make())
        return problem;
    process_life::add(process_life::stage::rank, made);
    return worker{std::move(made)};
}

worker::worker(std::shared_ptr<parts> made) : parts_(std::move(made)) {}

worker::worker(worker&&) noexcept = default;

worker& worker::operator=(worker&& other) noexcept {
    std::swap(parts_, other.parts_);
    return *this;
}

worker::~worker() {
    if (parts_)
        parts::end(std::move(parts_));
}

template <class Handle, class Open>
Handle worker::open(session_options&& options, side role, Open message) {
    if (!parts_) {
        auto nobody = std::make_shared<host_calls>(0);
        nobody->close(parts::moved_away());
        return refuse_session<Handle>(*callback_runner::make_closed(), std::move(options), role,
                                      nobody, parts::moved_away());
    }
    const auto& calls = parts_->calls;
    auto open = calls->visit();
    if (!open) { // in a forked child the rank's own runner may be locked for ever
        const auto runner =
            process_life::forked() ? callback_runner::make_closed() : parts_->callbacks;
        return refuse_session<Handle>(*runner, std::move(options), role, calls, open.error());
    }
    const auto& bounds = parts_->options.bounds;
    const auto refuse = [&](const caf::error& why) {
        return refuse_session<Handle>(*parts_->callbacks, std::move(options), role, calls, why);
    };
    if (parts_->callbacks->waiting() >= bounds.callbacks_waiting_max)
        return refuse(make_error(
            errc::limit_exceeded,
            "rid {}: callbacks_waiting_max = {} callbacks wait for one of the host's to return",
            options.request, bounds.callbacks_waiting_max));
    auto place = calls->enter();
    if (!place)
        return refuse(too_many_calls(*calls, options.request));
    if (!options.traceparent.empty()) {
        message.traceparent = parse_trace_parent(options.traceparent);
        if (!message.traceparent)
            return refuse(make_error(errc::invalid_argument,
                                     "rid {}: session_options.traceparent is not one of W3C's",
                                     options.request));
    }
    message.urgency = options.priority;
    message.deadline = options.deadline.value_or(bounds.session_deadline);
    message.transfer_deadline = options.transfer_deadline.value_or(bounds.transfer_deadline);
    auto promises = std::allocate_shared<session_promises>(recycling<session_promises>{});
    const call_that_spawns here;
    const counting_for rank{parts_->counters};
    auto gate = spawn_short_lived<session_gate_actor, session_gate_state>(
        *parts_->system, placement{parts_->loop.get()},
        session_gate_state::dependencies{
            .worker = parts_->actor,
            .callbacks =
                [runner = parts_->callbacks](run_callback call) { runner->run(std::move(call)); },
            .role = role,
            .request = options.request,
            .promises = promises,
            .on_outcome = std::move(options.on_outcome),
            .on_released = std::move(options.on_released),
            .on_ready = std::move(options.on_ready),
            .place = std::move(place),
            .on_piece = std::move(options.on_piece),
            .device = role == side::generation ? parts_->any_device() : device_actor{},
            .on_layers = std::move(options.on_layers),
            .quick_callbacks = options.quick_callbacks,
            .openers = parts_->openers});
    Handle result{parts_->system, options.request, gate, promises, calls, bounds.session_age_max};
    tell_from_outside(gate, std::move(message));
    return result;
}

tx_handle worker::open_tx(session_options options) {
    kvferry::open_tx message{options.request, options.aux, {}, {}};
    message.tell_ready = bool{options.on_ready};
    return open<tx_handle>(std::move(options), side::context, std::move(message));
}

rx_handle worker::open_rx(session_options options, context_address context) {
    kvferry::open_rx message;
    message.request = options.request;
    message.aux = options.aux;
    message.context_endpoint = std::move(context.endpoint);
    message.context_dp_rank = context.dp_rank;
    message.allowed = options.allowed;
    message.tell_layers = bool{options.on_layers};

    return open<rx_handle>(std::move(options), side::generation, std::move(message));
}

const std::string& worker::info_endpoint() const {
    static const std::string none;
    if (!parts_)
        return none;
    const auto& io = parts_->io;
    return io.advertised.empty() ? io.info_endpoint : io.advertised;
}

const std::string& worker::metrics_endpoint() const {
    static const std::string none;
    return parts_ && parts_->metrics ? parts_->metrics->endpoint() : none;
}

caf::expected<rank_info_reply> worker::info() const {
    return ask<rank_info_reply>(query_rank_info{});
}

caf::expected<worker_statistics> worker::statistics() const {
    return ask<worker_statistics>(query_statistics{});
}

caf::expected<session_list> worker::sessions() const {
    return ask<session_list>(list_sessions{});
}

caf::expected<session_list> worker::sessions(list_sessions which,
                                             std::chrono::milliseconds deadline) const {
    return ask<session_list>(which, deadline);
}

transfer_worker_actor worker::actor() const {
    return parts_ && parts_->calls->visit() ? parts_->actor : transfer_worker_actor{};
}

caf::expected<worker_stopped> worker::stop(std::chrono::milliseconds deadline) {
    if (!parts_)
        return parts::moved_away();
    return parts_->stop(deadline);
}

caf::expected<worker_stopped> worker::drain(std::chrono::milliseconds deadline) {
    if (!parts_)
        return parts::moved_away();
    return parts_->drain(deadline);
}

} // namespace kvferry
