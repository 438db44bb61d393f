// SPDX-License-Identifier: Apache-2.0
// The facade's calls, as messages to the rank's transfer worker.
#include "actors/host/worker.hpp"

#include "actors/host/ask_blocking.hpp"
#include "actors/host/worker_parts.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "transport/host_link/memory_mapping.hpp"
#include "transport/planner/topology.hpp"

#include <mutex>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// Ranks whose memory could not be proven quiet. They live until the process ends: freeing their
/// mappings or threads would let a late write land in memory that has another owner by then.
void keep_for_ever(std::shared_ptr<void> rank) {
    static std::mutex mutex;
    static auto* kept = new std::vector<std::shared_ptr<void>>; // no destructor at exit, on purpose
    std::lock_guard lock{mutex};
    kept->push_back(std::move(rank));
}

} // namespace

caf::expected<worker> worker::start(caf::actor_system& system, worker_options options) {
    auto made = std::make_shared<parts>();
    made->system = &system;
    made->options = std::move(options);
    if (auto problem = made->make())
        return problem;
    return worker{std::move(made)};
}

worker::worker(std::shared_ptr<parts> made) : parts_(std::move(made)) {}

worker::worker(worker&&) noexcept = default;

worker& worker::operator=(worker&& other) noexcept {
    std::swap(parts_, other.parts_);
    return *this;
}

worker::~worker() {
    if (parts_ && !parts_->stopped)
        stop(parts_->options.bounds.stop_deadline);
}

caf::expected<rank_info> worker::publish(std::vector<host_region> regions, page_table pages) {
    for (std::size_t index = 0; index < regions.size() && !parts_->options.world; ++index)
        if (const auto& region = regions[index]; region.kind == memory_kind::host_shared)
            if (auto problem = check_shareable(region.memfd, region.bytes))
                return add_context(problem, "region " + std::to_string(index)
                                                + " cannot be shared: seal its memfd with "
                                                  "F_SEAL_SHRINK, or publish it as host_private");
    if (auto problem = parts_->make_devices(regions))
        return problem;
    parts_->regions = regions;
    auto reply = ask_blocking<pools_registered>(
        *parts_->system, parts_->actor, register_pools{std::move(regions), std::move(pages)},
        2 * parts_->options.bounds.info_deadline);
    if (!reply)
        return std::move(reply.error());
    return std::move(reply->info);
}

namespace {

/// Refuses a session before the rank hears of it: outcome and release resolve at once.
template <class Handle>
Handle refuse_session(caf::actor_system& system, const callback_actor& callbacks,
                      session_options&& options, side role,
                      const std::shared_ptr<host_calls>& calls) {
    auto promises = std::make_shared<session_promises>();
    Handle result{system, options.request, session_gate_actor{}, promises, calls};
    session_finished outcome;
    outcome.role = role;
    outcome.request = options.request;
    outcome.state = session_state::error;
    outcome.error = too_many_calls(*calls, options.request);
    const session_released released{role, options.request, {}};
    promises->outcome.set_value(outcome);
    promises->released.set_value(released);
    const auto tell_host = [&](std::function<void()> call) {
        tell_from_outside(callbacks, run_callback{std::move(call), released.request});
    };
    if (options.on_outcome)
        tell_host([call = std::move(options.on_outcome), outcome] { call(outcome); });
    if (options.on_released)
        tell_host([call = std::move(options.on_released), released] { call(released); });
    return result;
}

template <class Handle, class Open>
Handle open_session(caf::actor_system& system, placement home, const transfer_worker_actor& actor,
                    const callback_actor& callbacks, session_options&& options, side role,
                    const std::shared_ptr<host_calls>& calls, Open open) {
    auto place = calls->enter();
    if (!place)
        return refuse_session<Handle>(system, callbacks, std::move(options), role, calls);
    auto promises = std::make_shared<session_promises>();
    auto gate = spawn_at<session_gate_actor, session_gate_state>(
        system, home,
        session_gate_state::dependencies{
            actor, callbacks, role, options.request, promises, std::move(options.on_outcome),
            std::move(options.on_released), std::move(options.on_ready), std::move(place),
            std::move(options.on_piece)});
    Handle result{system, options.request, gate, promises, calls};
    tell_from_outside(gate, std::move(open));
    return result;
}

} // namespace

tx_handle worker::open_tx(session_options options) {
    const auto& bounds = parts_->options.bounds;
    kvferry::open_tx ask{options.request,
                         options.aux,
                         {},
                         options.deadline.value_or(bounds.session_deadline),
                         options.transfer_deadline.value_or(bounds.transfer_deadline)};
    return open_session<tx_handle>(*parts_->system, {parts_->loop.get()}, parts_->actor,
                                   parts_->callbacks, std::move(options), side::context,
                                   parts_->calls, std::move(ask));
}

rx_handle worker::open_rx(session_options options, context_address context) {
    const auto& bounds = parts_->options.bounds;
    kvferry::open_rx ask{options.request,
                         options.aux,
                         std::move(context.endpoint),
                         context.dp_rank,
                         {},
                         options.deadline.value_or(bounds.session_deadline),
                         options.transfer_deadline.value_or(bounds.transfer_deadline),
                         options.allowed};
    return open_session<rx_handle>(*parts_->system, {parts_->loop.get()}, parts_->actor,
                                   parts_->callbacks, std::move(options), side::generation,
                                   parts_->calls, std::move(ask));
}

const std::string& worker::info_endpoint() const {
    const auto& io = parts_->io;
    return io.advertised.empty() ? io.info_endpoint : io.advertised;
}

caf::expected<rank_info_reply> worker::info() const {
    return ask_blocking<rank_info_reply>(*parts_->system, parts_->actor, query_rank_info{},
                                         parts_->options.bounds.info_deadline);
}

caf::expected<worker_statistics> worker::statistics() const {
    return ask_blocking<worker_statistics>(*parts_->system, parts_->actor, query_statistics{},
                                           parts_->options.bounds.info_deadline);
}

caf::expected<session_list> worker::sessions() const {
    return sessions({}, parts_->options.bounds.info_deadline);
}

caf::expected<session_list> worker::sessions(list_sessions which,
                                             std::chrono::milliseconds deadline) const {
    return ask_blocking<session_list>(*parts_->system, parts_->actor, which, deadline);
}

transfer_worker_actor worker::actor() const {
    return parts_->actor;
}

caf::expected<worker_stopped> worker::stop(std::chrono::milliseconds deadline) {
    if (!parts_ || std::exchange(parts_->stopped, true))
        return make_error(errc::stopped, "the worker was stopped already");
    auto reply = ask_blocking<worker_stopped>(*parts_->system, parts_->actor, stop_worker{deadline},
                                              deadline + parts_->options.bounds.info_deadline);
    if (reply && reply->unproven.empty()) {
        parts_->undo(true);
        return reply;
    }
    for (const auto& what : reply ? reply->unproven : std::vector{describe(reply.error())})
        logger().error(
            "rank {} of {} stopped without proof that its memory is quiet; the memory is kept: {}",
            to_string(instance_rank(parts_->identity.layout)), parts_->identity.instance, what);
    auto at_risk = parts_->shut_out();
    for (const auto& what : at_risk)
        logger().error("rank {} of {}: {}", to_string(instance_rank(parts_->identity.layout)),
                       parts_->identity.instance, what);
    if (reply)
        reply->at_risk = std::move(at_risk);
    keep_for_ever(parts_);
    return reply;
}

} // namespace kvferry
