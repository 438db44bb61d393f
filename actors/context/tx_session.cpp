// SPDX-License-Identifier: Apache-2.0
// Messages in, decisions of `sending`, messages out; and how one piece gets its plan and its route.
#include "actors/context/tx_session.hpp"

#include "actors/context/request_check.hpp"
#include "actors/decisions/links/message_order.hpp"
#include "actors/shared/death_notice.hpp"
#include "actors/shared/message_number.hpp"
#include "actors/shared/slot_text.hpp"
#include "messages/local/fabric.hpp"
#include "messages/local/recycled_containers.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/operations.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/planner/layout/relay.hpp"
#include "transport/planner/plan/piece_digest.hpp"
#include "transport/planner/plan/plan.hpp"
#include "transport/planner/plan/plan_check.hpp"

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

namespace kvferry {

namespace {

/// A small copy is cheap either way, and its reader profits from finding it in the cache. A larger
/// one bypasses the caches when the peer's pools are too large for them anyway.
bool past_cache(std::uint64_t bytes, const peer_view& peer, const limits& bounds) {
    return bytes > bounds.inline_copy_bytes_max
           && std::any_of(peer.regions.begin(), peer.regions.end(), [&](const memory_region& x) {
                  return x.bytes >= bounds.past_cache_region_bytes_min;
              });
}

sending::terms terms_of(const tx_session_state::dependencies& with) {
    const auto& environment = with.environment;
    return {with.request,
            with.aux,
            {environment, &environment->self},
            environment->bounds.aux_bytes_max,
            with.tell_ready};
}

} // namespace

tx_session_state::tx_session_state(tx_session_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)),
      meter_(with_.environment->counters, side::context, self->clock().now(), with_.request),
      value_(terms_of(with_)) {
    join(with_.traceparent);
    if (const auto& deciders = with_.environment->deciders)
        decider_ = deciders->sending;
}

tx_session_state::~tx_session_state() {
    if (with_.tell_owner_of_death && !retired_told_)
        tell_of_death(*self_, with_.owner);
    if (with_.tell_observer_of_death && !retired_told_)
        tell_of_death(*self_, with_.observer);
}

tx_session_actor::behavior_type tx_session_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &tx_session_state::on_send),
        handle(this, &tx_session_state::on_bind),
        handle(this, &tx_session_state::on<deadline_tick>),
        handle(this, &tx_session_state::on_done),
        handle(this, &tx_session_state::on_peer_ready),
        handle(this, &tx_session_state::on<peer_lost>),
        handle(this, &tx_session_state::on<process_gone>),
        handle(this, &tx_session_state::on<send_aux>),
        handle(this, &tx_session_state::on<unbind_receiver>),
        handle(this, &tx_session_state::on<gone>),
        handle(this, &tx_session_state::on<cancel_request>),
        handle(this, &tx_session_state::on<extend_session>),
        handle(this, &tx_session_state::on_slots),
        handle(this, &tx_session_state::on<owner_ended>),
        handle(this, &tx_session_state::on_status),
    };
}

void tx_session_state::handler_failed(const caf::error& reason) {
    decide_and_perform(sending_events::failed{reason});
}

void tx_session_state::join(const std::optional<trace_parent>& parent) {
    if (!parent || std::exchange(joined_trace_, true))
        return;
    record_join(self_, with_.request, *parent);
    meter_.joins(*parent);
}

void tx_session_state::on_send(send_slice& message) {
    sent_.add(message.slice);
    if (const auto& pages = with_.environment->self.pages)
        meter_.lends(message.slice, *pages);
    decide_and_perform(std::move(message));
}

void tx_session_state::on_bind(bind_receiver& message) {
    join(message.request.traceparent);
    meter_.belongs_to(message.request.header.attempt);
    meter_.met(turn_time(self_));
    auto layout = check(message);
    auto wait = message.peer->awaited.lock();
    sending_events::asked asked{std::move(message), std::move(wait), {}};
    if (layout)
        asked.layout = std::move(*layout);
    else
        asked.problem = std::move(layout.error());
    decide_and_perform(std::move(asked));
}

/// What its pieces are planned with, or why it cannot be served.
caf::expected<std::shared_ptr<const pair_layout>> tx_session_state::check(const bind_receiver& x) {
    const auto& environment = *with_.environment;
    const auto& peer = x.peer->info;
    if (auto problem = check_views(x.request, peer))
        return problem;
    if (environment.relays)
        if (auto problem =
                check_relay(x.request, environment.self, peer, with_.relay_of, with_.relay_views))
            return problem;
    const auto [writer, receiver] = ends_of(peer, x.request.views);
    const auto as_they_are = &writer == &environment.self && &receiver == &peer;
    return check_request(x.request, writer, receiver, with_.aux, environment.bounds,
                         *environment.plans, as_they_are ? x.peer : nullptr);
}

/// This rank, for its replica as if it had that one's place; and the receiver as if it had these
/// views alone.
tx_session_state::ends_view tx_session_state::ends_of(const rank_info& receiver,
                                                      const std::vector<view_place>& views) {
    const auto& self = with_.environment->self;
    const auto relays = with_.environment->relays && are_replicas(self, receiver, views);
    if (!relays && views.empty())
        return {self, receiver};
    auto [known, fresh] = ends_.try_emplace({receiver.incarnation, views});
    if (fresh)
        known->second = {relays ? in_place_of(receiver, self, views) : self,
                         with_views(receiver, views)};
    return {known->second.writer, known->second.receiver};
}

void tx_session_state::on_done(const transfer_done& message) {
    const auto found = flights_.find(message.id);
    if (found == flights_.end() || add_up(found->second, message))
        return;
    const auto ended = flights_.extract(found);
    if (const auto& sent = ended.mapped().sent) {
        auto both = *sent;
        both.digest = message.digest;
        return on_end(ended.mapped(), both);
    }
    on_end(ended.mapped(), message);
}

/// What a device has sent through staging memory it reads once more, for the digest.
bool tx_session_state::add_up(flight& x, const transfer_done& message) {
    if (!x.reader || message.result != agent_result::success)
        return false;
    start_copy question{message.id, reading_sources(*x.plan, with_.environment->source_pools),
                        self_};
    question.of = flow_of(*x.piece.request);
    question.digest = digest_share{0, pairs_of(*x.plan)};
    question.read_only = true;
    x.sent = message;
    tell(self_, std::exchange(x.reader, {}), std::move(question));
    return true;
}

void tx_session_state::on_end(const flight& x, const transfer_done& message) {
    const auto& piece = x.piece;
    const auto& [plan, copier, way, launched, along] =
        std::tie(x.plan, x.copier, x.way, x.launched, x.reports_along);
    if (message.result == agent_result::success) {
        meter_.took(stage::queue, message.began - launched);
        meter_.took(stage::copy, message.ended - message.began);
        meter_.took(stage::report, self_->clock().now() - message.ended);
    }
    if (message.result == agent_result::success)
        meter_.moved(way, flow_of(*piece.request).urgency, plan->bytes, plan->fragments);
    auto end =
        message.result == agent_result::success
            ? along ? served(piece, *along) : served(piece, *plan, message.digest)
            : not_served(piece, message.result,
                         in_context(message.damaged ? make_error(
                                        code_of(message.error), "{}: first in {}",
                                        text_of(message.error), where(*message.damaged, piece))
                                                    : message.error,
                                    piece.peer->info));
    end.posting = message.posting;
    end.by_messages = message.result == agent_result::in_doubt && !copier && !piece.peer->by_rma;
    decide_and_perform(std::move(end));
}

void tx_session_state::on_peer_ready(const peer_ready&) {}

caf::result<session_status> tx_session_state::on_status(const query_status&) {
    return value_.status();
}

caf::result<slots_on_loan> tx_session_state::on_slots(const query_slots&) {
    return value_.on_loan();
}

/// What is done on the spot is an event of its own, once all else is done. Planning is the only
/// effect that can fail by an exception: it comes last, so nothing that was decided is lost with
/// it.
void tx_session_state::decide_and_perform(sending::event&& first) {
    answer next;
    auto now = turn_time(self_);
    for (auto* event = &first; event; event = next ? &*next : nullptr) {
        auto effects = decide(decider_, value_, std::move(*event), now);
        next.reset();
        meter_.shows(value_.state());
        for (auto& effect : effects)
            if (auto answered = std::visit([this](auto& x) { return perform(x); }, effect)) {
                next = std::move(answered);
                now = self_->clock().now(); // bytes may have been copied meanwhile
            }
    }
    owner_news_.tell([this]<class News>(News message) {
        retired_told_ = retired_told_ || std::is_same_v<News, session_retired>;
        tell(self_, with_.owner, std::move(message));
    });
}

// -- effects ------------------------------------------------------------------------------------

tx_session_state::answer tx_session_state::perform(sending_effects::tell_peer& x) {
    std::visit([&](auto& message) { tell(self_, x.peer->link, send_message{std::move(message)}); },
               x.message);
    return {};
}

tx_session_state::answer tx_session_state::perform(sending_effects::tell_host& x) {
    const auto released = std::holds_alternative<session_released>(x.message);
    if (released)
        meter_.released(self_->clock().now());
    else if (const auto* end = std::get_if<session_finished>(&x.message))
        meter_.ended(self_->clock().now(), code_of(end->error));
    std::visit([this](auto& message) { tell(self_, with_.observer, std::move(message)); },
               x.message);
    if (released)
        with_.observer = observer_actor{}; // the observer may hold this session
    return {};
}

tx_session_state::answer tx_session_state::perform(sending_effects::tell_owner& x) {
    std::visit(
        [this]<class Message>(Message& message) {
            if constexpr (std::is_same_v<Message, session_transferring>) {
                message.at = turn_time(self_); // its owner measures time from here
                owner_news_.add(message);
            } else if constexpr (std::is_same_v<
                                     Message,
                                     session_ended> || std::is_same_v<Message, session_retired>)
                owner_news_.add(std::move(message));
            else
                tell(self_, with_.owner, message);
        },
        x.message);
    return {};
}

tx_session_state::answer tx_session_state::perform(sending_effects::plan_piece& x) {
    const auto taken = clock::now();
    const auto& environment = *with_.environment;
    const auto& peer = *x.peer;
    const auto [self, receiver] = ends_of(peer.info, x.request->views);
    const auto& from = x.source->slice;
    const auto& to = x.request->target;
    auto plan = x.layout ? make_plan(self, from, receiver, to, *x.layout)
                         : make_plan(self, from, receiver, to, *environment.plans);
    auto problem = plan ? check_plan(*plan, *environment.self.pages, environment.regions,
                                     *peer.info.pages, peer.regions)
                        : plan.error();
    if (!problem && from.last)
        problem = sent_.missing(self, receiver, to);
    if (problem)
        return not_served(x, agent_result::failed, in_context(problem, peer.info));
    if (plan->bytes == 0) {
        meter_.moved(route::none, flow_of(*x.request).urgency, 0, 0);
        return served(x, *plan);
    }
    return find_route(x, make_recycled<const copy_plan>(std::move(*plan)), taken);
}

sending::event tx_session_state::find_route(sending_effects::plan_piece& x,
                                            std::shared_ptr<const copy_plan> plan,
                                            time_point taken) {
    const auto& environment = *with_.environment;
    const auto& peer = *x.peer;
    auto chosen =
        choose_route(*plan, environment.memory, peer, environment.route, x.request->may_map);
    if (!chosen)
        return not_served(x, agent_result::failed, chosen.error());
    const auto by_device = chosen->device >= 0;
    if (const auto& events = x.source->events; !by_device && (events.wait_for || events.completed))
        return not_served(
            x, agent_result::failed,
            make_error(
                errc::unsupported,
                "rid {}: a slice with device events goes by {}, which does not support events",
                with_.request, to_string(*chosen)));
    if (chosen->taken != route::mapped && environment.route == route_choice::automatic
        && peer.info.machine == environment.self.machine)
        environment.downgrades->note(environment.self, peer.info, to_string(*chosen));
    const auto bytes = plan->bytes;
    copy_job job{plan, environment.source_pools, std::move(chosen->target_pools),
                 std::move(chosen->holds), past_cache(bytes, peer, environment.bounds)};
    const auto posting = clock::now() - taken;
    meter_.took(stage::plan, posting);
    const auto by_host = chosen->taken == route::mapped && !by_device;
    if (by_host && bytes <= environment.bounds.inline_copy_bytes_max) {
        record_io(self_, trace::instant::io_begin, trace::inline_copy, 0, bytes,
                  with_.request.value);
        const auto began = clock::now();
        copy_now(job);
        meter_.took(stage::copy, clock::now() - began);
        record_io(self_, trace::instant::io_end, trace::inline_copy, 0, bytes, with_.request.value);
        auto copied = served(x, *plan);
        copied.route = described(*chosen);
        meter_.moved(chosen->taken, flow_of(*x.request).urgency, bytes, copied.fragments);
        copied.posting = posting;
        return copied;
    }
    const transfer_id id{(std::uint64_t{with_.serial} << 32) | transfers_++};
    sending_events::piece_planned planned{x.to,        x.index, id, described(*chosen),
                                          "fabric_io", posting};
    flight ready{.piece = std::move(x),
                 .plan = std::move(plan),
                 .job = std::move(job),
                 .way = chosen->taken};
    if (by_device && chosen->taken == route::staged) {
        ready.staged = environment.staged.at(chosen->device);
        if (makes_digests(*ready.piece.request) && !readable_by_host(environment.memory))
            ready.reader = environment.devices.at(chosen->device);
    } else if (by_device) {
        ready.copier = environment.devices.at(chosen->device);
        planned.executor = "cuda_io";
    } else if (by_host) {
        ready.copier = environment.copy;
        planned.executor = "copy_io";
    } else if (!peer.by_rma && !ready.piece.request->tell_layers) {
        ready.reports_along = {bytes, ready.plan->fragments, digest_of(ready.piece, *ready.plan)};
        planned.reports_along = ready.reports_along;
    }
    flights_.emplace(id, std::move(ready));
    return planned;
}

/// The receiver's bytes of the slice are all there: which of its layers are whole now?
std::uint32_t tx_session_state::layers_written(const sending_effects::plan_piece& x) {
    const auto [self, receiver] = ends_of(x.peer->info, x.request->views);
    auto& known = written_[x.to];
    known.slices.add(x.source->slice);
    known.layers_end =
        known.slices.first_missing_layer(self, receiver, x.request->target, known.layers_end);
    return known.layers_end;
}

bool tx_session_state::makes_digests(const request_data& asked) const {
    return asked.digest
           && (asked.digest_by_position || readable_by_host(with_.environment->memory));
}

/// `made` was made on the way by whoever copied.
std::optional<piece_digest> tx_session_state::digest_of(const sending_effects::plan_piece& x,
                                                        const copy_plan& plan,
                                                        const std::optional<plan_digest>& made) {
    if (!makes_digests(*x.request) || (!made && !readable_by_host(with_.environment->memory)))
        return std::nullopt;
    piece_digest result{.tokens = x.source->slice.tokens, .layers = x.source->slice.layers};
    const auto& pools = with_.environment->source_pools;
    if (!x.request->digest_by_position) {
        result.value = digest_of_sources(plan, pools);
        return result;
    }
    auto sums = made ? *made : sums_of_sources(plan, pools);
    result.by_position = true;
    result.value = sums.sum;
    result.parts = std::move(sums.parts);
    return result;
}

/// Its receiver knows already.
sending_events::piece_ended tx_session_state::served(const sending_effects::plan_piece& x,
                                                     const amount& along) {
    sending_events::piece_ended result{x.to, x.index};
    result.bytes = along.bytes;
    result.fragments = along.fragments;
    result.digest = along.digest;
    result.reported = true;
    return result;
}

sending_events::piece_ended tx_session_state::served(const sending_effects::plan_piece& x,
                                                     const copy_plan& plan,
                                                     const std::optional<plan_digest>& made) {
    sending_events::piece_ended result{x.to, x.index};
    result.bytes = plan.bytes;
    result.fragments = plan.fragments;
    result.digest = digest_of(x, plan, made);
    if (x.request->tell_layers)
        result.layers_end = layers_written(x);
    return result;
}

sending_events::piece_ended tx_session_state::not_served(const sending_effects::plan_piece& x,
                                                         agent_result result,
                                                         const caf::error& why) {
    return {x.to, x.index, result, why};
}

/// Which block of the receiver they belong to.
std::string tx_session_state::where(const damaged_bytes& x,
                                    const sending_effects::plan_piece& piece) {
    const auto& peer = *piece.peer;
    for (std::uint32_t region = 0; peer.info.pages && region < peer.regions.size(); ++region) {
        const auto& memory = peer.regions[region];
        if (x.address - memory.base_address >= memory.bytes)
            continue;
        if (const auto at = slot_at(*peer.info.pages, region, x.address - memory.base_address))
            return text_of_slot(*peer.info.pages, piece.request->target, at->first, at->second);
    }
    return fmt::format("{} bytes at {}", x.bytes, x.address);
}

caf::error tx_session_state::in_context(const caf::error& why, const rank_info& peer) const {
    return add_context(why, "rid {} to {}", with_.request, describe(peer));
}

tx_session_state::answer tx_session_state::perform(sending_effects::launch_piece& x) {
    auto& [piece, plan, copier, staged, job, way, launched, along, reader, sent] =
        flights_.at(x.transfer);
    launched = self_->clock().now();
    const auto& events = piece.source->events;
    const auto of = flow_of(*piece.request);
    if (copier) {
        start_copy copy{
            .id = x.transfer, .job = std::move(job), .reply_to = self_, .events = events, .of = of};
        if (piece.request->digest_by_position && makes_digests(*piece.request))
            copy.digest = digest_share{0, pairs_of(*plan)};
        tell(self_, copier, std::move(copy));
        return {};
    }
    start_put put{.id = x.transfer,
                  .endpoint = piece.peer->endpoint,
                  .job = std::move(job),
                  .reply_to = self_,
                  .attempt = piece.request->header.attempt,
                  .of = of};
    put.sums = (piece.peer->terms.capabilities & capability::put_sums) != 0;
    if (x.report)
        put.report = frame_of(std::move(*x.report), *piece.peer);
    if (put.report.empty())
        along.reset();
    if (staged) {
        put.events = events;
        tell(self_, staged, std::move(put));
    } else {
        tell(self_, with_.environment->fabric, std::move(put));
    }
    return {};
}

flow tx_session_state::flow_of(const request_data& asked) const {
    return {.urgency = with_.urgency.value_or(asked.urgency),
            .peer = asked.header.sender.value,
            .session = asked.header.attempt.value};
}

/// Empty: it does not fit or the receiver's release knows none beside its bytes; then it goes by
/// itself when the bytes are there.
byte_buffer tx_session_state::frame_of(kv_agent_result report, const peer_view& peer) {
    constexpr std::uint16_t first_version = 7;
    const auto& environment = *with_.environment;
    if (peer.terms.protocol < first_version)
        return {};
    report.header.version = peer.terms.protocol;
    report.header.sender = environment.self.incarnation;
    report.header.receiver = peer.info.incarnation;
    report.header.sequence = beside_order;
    report.header.trace = {report.header.attempt.value,
                           next_message_number(environment.self.incarnation)};
    const wire_message message{std::move(report)};
    auto frame = encode(message, std::min<std::uint64_t>({put_report_bytes_max,
                                                          environment.bounds.message_bytes_max,
                                                          peer.info.accepts.message_bytes_max}));
    if (!frame)
        return {};
    record_wire(self_, trace::instant::wire_sent, message);
    return std::move(*frame);
}

tx_session_state::answer tx_session_state::perform(sending_effects::cancel_piece& x) {
    const auto& flying = flights_.at(x.transfer);
    if (flying.copier)
        tell(self_, flying.copier, cancel_transfer{x.transfer});
    else if (flying.staged)
        tell(self_, flying.staged, cancel_transfer{x.transfer});
    else
        tell(self_, with_.environment->fabric, cancel_transfer{x.transfer});
    return {};
}

tx_session_state::answer tx_session_state::perform(sending_effects::count_ignored& x) {
    count(with_.environment->counters, x.why);
    return {};
}

tx_session_state::answer tx_session_state::perform(sending_effects::quit&) {
    self_->quit();
    return {};
}

} // namespace kvferry
