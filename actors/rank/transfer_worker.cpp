// SPDX-License-Identifier: Apache-2.0
// Registration, sessions and links of a rank; transfer_worker_stop.cpp has its end.
#include "actors/rank/transfer_worker.hpp"

#include "actors/context/sender.hpp"
#include "actors/context/staged_put.hpp"
#include "actors/generation/receiver.hpp"
#include "actors/instance/carried_instances.hpp"
#include "actors/instance/registrar.hpp"
#include "actors/rank/memory_routes.hpp"
#include "actors/rank/peer_link.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/trace/pass_on.hpp"
#include "messages/values/error_format.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/wire_layout.hpp"
#include "transport/planner/layout/page_table_check.hpp"
#include "transport/planner/layout/topology.hpp"

#include <utility>

namespace kvferry {

transfer_worker_state::transfer_worker_state(transfer_worker_actor::pointer self, dependencies with)
    : self_(self), with_(std::move(with)), random_(with_.seed), counters_(with_.counters) {
    if (with_.deciders) {
        peers_decider_ = with_.deciders->peer_table;
        stopping_decider_ = with_.deciders->stopping;
    }
    self_->set_down_handler([this](const caf::down_msg& down) { on_down(down); });
}

/// However it ends: who is shown would live on.
transfer_worker_state::~transfer_worker_state() {
    *with_.openers = {};
}

transfer_worker_actor::behavior_type transfer_worker_state::make_behavior() {
    return {
        // What each transfer needs comes first: CAF looks for a handler from above.
        handle(this, &transfer_worker_state::on_open_rx),
        handle(this, &transfer_worker_state::on_open_tx),
        handle(this, &transfer_worker_state::on_frame),
        handle(this, &transfer_worker_state::on_endpoint_failed),
        handle(this, &transfer_worker_state::on_peer_ready),
        handle(this, &transfer_worker_state::on_peer_lost),
        handle(this, &transfer_worker_state::on_process_gone),
        handle(this, &transfer_worker_state::on_device_lost),
        handle(this, &transfer_worker_state::on_adopt),
        handle(this, &transfer_worker_state::on_adopt_devices),
        handle(this, &transfer_worker_state::on_register),
        handle(this, &transfer_worker_state::on_add_instance),
        handle(this, &transfer_worker_state::on_connect),
        handle(this, &transfer_worker_state::on_await_peer),
        handle(this, &transfer_worker_state::on_query_info),
        handle(this, &transfer_worker_state::on_list),
        handle(this, &transfer_worker_state::on_statistics),
        handle(this, &transfer_worker_state::on_deadline),
        handle(this, &transfer_worker_state::on_drain),
        handle(this, &transfer_worker_state::on_stop),
    };
}

// -- start --------------------------------------------------------------------------------------

void transfer_worker_state::on_adopt(const adopt_io& message) {
    io_ = message;
    const auto& identity = with_.identity;
    info_.instance = identity.instance;
    info_.rank = instance_rank(identity.layout);
    info_.world_size = identity.world_size;
    info_.incarnation = identity.incarnation;
    info_.layout = identity.layout;
    info_.accepts = {with_.bounds.message_bytes_max, with_.bounds.aux_bytes_max,
                     with_.bounds.blocks_per_slice_max};
    info_.fabric_address = io_.described.address;
    info_.machine = identity.machine;
    info_.host_link_name = io_.host_link ? identity.host_link_name : std::string{};
    info_.token = identity.token;
    info_.fingerprint = identity.fingerprint;
    info_.protocol = with_.bounds.protocol;
    if (info_.protocol >= growing_version)
        info_.capabilities =
            capability::optional_messages | capability::relayed_requests | capability::parts
            | capability::early_requests | (with_.bounds.relay ? capability::relays : 0)
            | (with_.bounds.digests >= digest_level::wire ? capability::put_sums : 0);
    stopping_ = stopping{describe(info_)};
}

void transfer_worker_state::on_adopt_devices(const adopt_devices& message) {
    devices_ = message.devices;
    staging_ = message.staging;
    landing_ = message.landing;
}

/// The device's CUDA context is lost for the whole process, and with it the memory that the rank
/// serves.
void transfer_worker_state::on_device_lost(const device_lost& message) {
    fail_rank(message.reason);
}

/// Ends the rank's sessions with an error and refuses new ones until the process restarts.
void transfer_worker_state::fail_rank(const caf::error& why) {
    if (lost_)
        return;
    lost_ = why;
    show_openers();
    counters_->phase = rank_phase::lost;
    if (!sender_)
        return;
    ask(self_, sender_, cancel_request{lost_}).then([] {}, [](const caf::error&) {});
    ask(self_, receiver_, cancel_request{lost_}).then([] {}, [](const caf::error&) {});
}

caf::result<pools_registered> transfer_worker_state::on_register(const register_pools& message) {
    if (stopping_.begun())
        return make_error(errc::stopped, "{} is stopping", describe(info_));
    if (lost_)
        return add_context(lost_, describe(info_));
    if (info_.pages || registration_.pending())
        return make_error(errc::duplicate, "{} has its pools registered already", describe(info_));
    info_.pages = message.pages;
    if (auto problem = check_page_table(info_)) {
        info_.pages.reset();
        return problem;
    }
    for (const auto& pool : message.pages.pools)
        if (pool.region >= message.regions.size()) {
            info_.pages.reset();
            return make_error(errc::invalid_argument, "a pool lies in region {} of {}", pool.region,
                              message.regions.size());
        }
    registration_ = self_->make_response_promise<pools_registered>();
    rank_memory::terms terms{.also_shared = staging_.size(),
                             .shared_regions_max = with_.bounds.shared_regions_max};
    for (const auto& [ordinal, device] : devices_)
        terms.devices.insert(ordinal);
    for (const auto& [ordinal, memory] : landing_)
        terms.landing.insert(ordinal);
    memory_ = rank_memory{std::move(terms)};
    decide_memory(rank_memory::given{message});
    return registration_;
}

void transfer_worker_state::decide_memory(rank_memory::event event) {
    for (const auto& effect : memory_.on(std::move(event), self_->clock().now()))
        std::visit([this](const auto& x) { perform(x); }, effect);
}

void transfer_worker_state::perform(const rank_memory::pin& x) {
    const auto& region = memory_.given_regions()[x.region];
    ask(self_, devices_.begin()->second, pin_host_region{region.base, region.bytes})
        .then([this, x] { decide_memory(rank_memory::pinned{x.region}); },
              [this, x](const caf::error& why) {
                  decide_memory(rank_memory::pinned{x.region, why});
              });
}

void transfer_worker_state::perform(const rank_memory::export_from& x) {
    const auto& region = memory_.given_regions()[x.region];
    ask(self_, devices_.at(x.device), export_device_region{region.base, region.bytes})
        .then(
            [this, x](device_region_exported& done) {
                decide_memory(rank_memory::exported{x.region, std::move(done)});
            },
            [this, x](const caf::error& why) {
                decide_memory(rank_memory::failed{x.region, why});
            });
}

void transfer_worker_state::perform(const rank_memory::register_here& x) {
    const auto& region = memory_.given_regions()[x.region];
    register_region message{region.base, region.bytes, region.kind};
    message.by_attempt = true;
    if (x.lands_first) {
        message.copier = devices_.at(region.device);
        message.staging = landing_.at(region.device);
    }
    ask(self_, io_.fabric, message)
        .then(
            [this, x](region_registered& done) {
                decide_memory(rank_memory::registered{x.region, std::move(done)});
            },
            [this, x](const caf::error& why) {
                decide_memory(rank_memory::failed{x.region, why});
            });
}

/// All memory is registered: starts the rank's actors, then introduces the rank to its instance.
void transfer_worker_state::publish() {
    const auto& given = memory_.given_regions();
    for (std::uint32_t index = 0; index < given.size(); ++index)
        if (const auto& region = given[index]; region.kind == memory_kind::host_shared)
            tell(self_, io_.host_link,
                 share_region{index, region.memfd, region.bytes, region.base});
    for (const auto& chunk : memory_.chunks())
        tell(self_, io_.host_link, chunk);
    for (const auto& [ordinal, memory] : staging_)
        if (memory.memfd >= 0)
            tell(self_, io_.host_link,
                 share_region{staging_region(ordinal), memory.memfd, memory.bytes, memory.base});
    auto environment = std::make_shared<sender_environment>();
    environment->home = with_.home;
    environment->bounds = with_.bounds;
    environment->route = with_.route;
    environment->fabric = io_.fabric;
    environment->copy = io_.copy;
    environment->devices = devices_;
    for (const auto& [ordinal, memory] : staging_)
        environment->staged.emplace(
            ordinal, spawn_at<staged_put_actor, staged_put_state>(
                         self_->system(), with_.home,
                         staged_put_state::dependencies{.bounds = with_.bounds,
                                                        .ordinal = ordinal,
                                                        .device = devices_.at(ordinal),
                                                        .fabric = io_.fabric,
                                                        .staging = memory}));
    environment->memory = memory_.own();
    environment->self = info_;
    environment->regions = memory_.regions();
    environment->plans = std::make_shared<plan_cache>(with_.bounds.plan_cache_entries_max);
    environment->counters = counters_;
    environment->deciders = with_.deciders;
    for (const auto& pool : std::as_const(info_).pages->pools)
        environment->source_pools.push_back(
            {memory_.regions()[pool.region].base_address + pool.region_offset_bytes,
             pool.slot_stride_bytes, pool.region});
    std::shared_ptr<const piece_checker> checker;
    if (with_.bounds.digests == digest_level::memory)
        checker = std::make_shared<piece_checker>(info_, environment->source_pools, memory_.own(),
                                                  environment->plans, devices_);
    sender_ =
        spawn_at<sender_actor, sender_state>(self_->system(), with_.home, std::move(environment));
    receiver_ = spawn_at<receiver_actor, receiver_state>(
        self_->system(), with_.home,
        receiver_state::dependencies{.home = with_.home,
                                     .bounds = with_.bounds,
                                     .self = info_,
                                     .own_endpoint = io_.info_endpoint,
                                     .info_link = io_.info_link,
                                     .fabric = io_.fabric,
                                     .worker = self_,
                                     .seed = with_.seed,
                                     .checker = std::move(checker),
                                     .counters = counters_,
                                     .by_message = io_.described.by_message,
                                     .deciders = with_.deciders,
                                     .sender = with_.bounds.relay ? sender_ : sender_actor{}});
    self_->monitor(sender_);
    self_->monitor(receiver_);
    introduce(self_->clock().now() + with_.bounds.info_deadline, {});
}

/// Introduces the rank to its instance. Ranks start in any order: when rank 0 does not listen yet,
/// it is asked again until the time is over.
void transfer_worker_state::introduce(time_point until, back_off wait) {
    const auto left = until - self_->clock().now();
    if (stopping_.begun()) {
        registration_.deliver(make_error(errc::stopped, "{} is stopping", describe(info_)));
        return;
    }
    ask(self_, io_.info_link,
        register_with_instance{io_.info_endpoint, info_,
                               std::chrono::ceil<std::chrono::milliseconds>(left), io_.answers_at})
        .then([this] { published({}); },
              [this, until, wait](const caf::error& reason) mutable {
                  const auto now = self_->clock().now();
                  wait.failed(now, random_);
                  count_retry(counters_, retried::registration);
                  if (code_of(reason) == errc::dial_failed && wait.until() < until)
                      self_->run_delayed(wait.until() - now,
                                         [this, until, wait] { introduce(until, wait); });
                  else
                      published(reason);
              });
}

void transfer_worker_state::published(const caf::error& answer) {
    const auto& failure = answer ? answer : lost_;
    if (!failure) {
        logger().info("{}, incarnation {}: published at {}", describe(info_),
                      info_.incarnation.value, known_as());
        if (!stopping_.begun()) // before the host hears of it, and asks
            counters_->phase = rank_phase::published;
        registration_.deliver(pools_registered{info_});
        show_openers();
        if (stopping_.begun())
            return;
        if (is_carried(io_.info_endpoint)) // no server that could be started anew
            return;
        registrar_ = spawn_at<registrar_actor, registrar_state>(
            self_->system(), with_.home,
            registrar_state::dependencies{.bounds = with_.bounds,
                                          .self = info_,
                                          .endpoint = io_.info_endpoint,
                                          .info_link = io_.info_link,
                                          .worker = self_,
                                          .seed = with_.seed ^ info_.incarnation.value,
                                          .deciders = with_.deciders,
                                          .counters = counters_,
                                          .answers_at = io_.answers_at});
        self_->monitor(registrar_);
        return;
    }
    for (auto region : memory_.ids())
        tell(self_, io_.fabric, unregister_region{region});
    memory_ = {};
    info_.pages.reset();
    // Links and sessions made meanwhile end, because the pools that they would use are gone.
    close_links({failure, false}); // no goodbye: this process may be told to publish again
    self_->send_exit(std::exchange(sender_, {}), caf::exit_reason::user_shutdown);
    self_->send_exit(std::exchange(receiver_, {}), caf::exit_reason::user_shutdown);
    registration_.deliver(add_context(failure, "pools of {}", describe(info_)));
}

// -- sessions and links -------------------------------------------------------------------------

caf::error transfer_worker_state::not_ready() const {
    if (stopping_.begun())
        return make_error(errc::stopped, "{} is stopping", describe(info_));
    if (lost_)
        return add_context(lost_, describe(info_));
    if (!sender_ || !info_.pages)
        return make_error(errc::missing_layout, "{} has no pools: register them first",
                          describe(info_));
    return {};
}

/// Peers may connect as soon as the instance knows the rank; sessions may open once the host is
/// told.
caf::error transfer_worker_state::no_sessions_yet() const {
    if (auto problem = not_ready())
        return problem;
    if (registration_.pending())
        return make_error(errc::missing_layout, "{} is still registering its pools",
                          describe(info_));
    return {};
}

void transfer_worker_state::show_openers() {
    *with_.openers = no_sessions_yet() ? session_openers{} : session_openers{sender_, receiver_};
}

caf::result<tx_opened> transfer_worker_state::on_open_tx(open_tx& message) {
    if (auto problem = no_sessions_yet())
        return problem;
    return pass_on(self_, sender_, std::move(message));
}

caf::result<rx_opened> transfer_worker_state::on_open_rx(open_rx& message) {
    if (auto problem = no_sessions_yet())
        return problem;
    return pass_on(self_, receiver_, std::move(message));
}

/// Before there is a receiver: it will ask.
void transfer_worker_state::on_add_instance(const add_instance& message) {
    if (receiver_)
        tell(self_, receiver_, message);
}

caf::result<peer_connected> transfer_worker_state::on_connect(const connect_peer& message) {
    if (auto problem = not_ready())
        return problem;
    const auto peer = message.peer.incarnation;
    decide_peers(peer_table::wanted{message.peer});
    const auto dial = peers_.link_to(peer);
    if (!dial)
        return make_error(errc::link_lost, "there is no link to {}", describe(message.peer));
    return peer_connected{links_.at(*dial)};
}

void transfer_worker_state::decide_peers(peer_table::event x) {
    auto decided = decide(peers_decider_, peers_, std::move(x), self_->clock().now());
    for (auto& effect : decided)
        std::visit([this](auto& each) { perform(each); }, effect);
    counters_->links = static_cast<std::int64_t>(peers_.linked());
}

void transfer_worker_state::perform(peer_table::make_link& x) {
    if (x.again)
        count_retry(counters_, retried::link);
    auto early = early_.take(x.peer.incarnation);
    auto link = spawn_at<peer_link_actor, peer_link_state>(
        self_->system(), with_.home,
        peer_link_state::dependencies{.bounds = with_.bounds,
                                      .self = info_,
                                      .regions = memory_.regions(),
                                      .fabric = io_.fabric,
                                      .host_link = io_.host_link,
                                      .devices = devices_,
                                      .worker = self_,
                                      .sender = sender_,
                                      .receiver = receiver_,
                                      .dial = x.dial,
                                      .peer = std::move(x.peer),
                                      .introduction = std::move(x.introduction),
                                      .counters = counters_,
                                      .deciders = with_.deciders,
                                      .closed = not_ready()});
    self_->monitor(link);
    links_.emplace(x.dial, link);
    dial_of_.emplace(link.id(), x.dial);
    tell(self_, link, start_link{});
    for (auto& frame : early)
        tell(self_, link, frame_arrived{std::move(frame)});
}

/// Frames of peers arrive here until the fabric knows their link: such a peer introduces itself,
/// has asked right behind that, or is foreign.
void transfer_worker_state::on_frame(const frame_arrived& arrived) {
    auto message = decode(arrived.frame, with_.bounds.message_bytes_max, with_.bounds.protocol);
    if (!message) {
        counters_->ignore(code_of(message.error()));
        return;
    }
    const auto ready = !not_ready();
    const auto from = header_of(*message).sender;
    if (const auto dial = peers_.link_to(from);
        dial && ready && !std::holds_alternative<register_rank_info>(*message))
        return tell(self_, links_.at(*dial), arrived);
    record_wire(self_, trace::instant::wire_received, *message);
    if (auto* introduction = std::get_if<register_rank_info>(&*message))
        return introduced(peer_table::introduced{std::move(*introduction)});
    counters_->add(ignored::no_link);
    if (!ready || header_of(*message).receiver != info_.incarnation)
        return;
    early_.keep(from, arrived.frame);
    decide_peers(peer_table::stray{std::move(*message)});
}

void transfer_worker_state::perform(peer_table::show_introduction& x) {
    auto frame = encode(x.message, with_.bounds.message_bytes_max);
    if (!frame)
        return;
    ask(self_, links_.at(x.dial), frame_arrived{std::move(*frame)})
        .then([] {}, [this, unread = peer_table::unread{x.dial, std::move(x.message)}](
                         const caf::error&) mutable { introduced(std::move(unread)); });
}

/// A rank that has failed, stops or has no pools refuses its peer by name, which would wait for an
/// answer until its dial_deadline. Once the last links end, the end of the connection tells it.
void transfer_worker_state::introduced(peer_table::event x) {
    if (links_end_)
        counters_->add(ignored::early_introduction);
    else
        decide_peers(std::move(x));
}

void transfer_worker_state::perform(peer_table::ignore& x) {
    counters_->ignore(x.why);
}

void transfer_worker_state::perform(peer_table::tell_sender_of_loss& x) {
    tell(self_, sender_, peer_lost{x.peer, std::move(x.reason)});
}

void transfer_worker_state::perform(peer_table::bury_link& x) {
    count_death(counters_);
    const peer_lost announcement{x.peer, std::move(x.reason)};
    logger().error("{}: {}", describe(info_), describe(announcement.reason));
    if (x.counted) {
        tell(self_, sender_, announcement);
        tell(self_, receiver_, announcement);
    }
    tell(self_, io_.host_link, host_link_close{x.peer, links_.at(x.dial)});
}

void transfer_worker_state::on_endpoint_failed(const endpoint_failed&) {
    counters_->add(ignored::endpoint_failed); // endpoints belong to links
}

caf::result<void> transfer_worker_state::on_await_peer(const await_peer& message) {
    auto answer = self_->make_response_promise<void>();
    awaited_.emplace(message.peer, answer);
    decide_peers(peer_table::awaited{message.peer});
    return answer;
}

void transfer_worker_state::on_peer_ready(const peer_ready& message) {
    decide_peers(peer_table::link_ready{message.peer->info.incarnation});
}

void transfer_worker_state::on_peer_lost(const peer_lost& message) {
    decide_peers(peer_table::link_lost{message.peer, message.reason});
}

void transfer_worker_state::perform(peer_table::answer_awaiting& x) {
    while (auto waits = awaited_.extract(x.peer))
        x.problem ? waits.mapped().deliver(x.problem) : waits.mapped().deliver();
}

void transfer_worker_state::on_process_gone(const process_gone& message) {
    decide_peers(peer_table::peer_gone{message.peer});
}

// -- questions ----------------------------------------------------------------------------------

const std::string& transfer_worker_state::known_as() const {
    return io_.advertised.empty() ? io_.info_endpoint : io_.advertised;
}

caf::result<rank_info_reply> transfer_worker_state::on_query_info(const query_rank_info&) {
    return rank_info_reply{info_, known_as(), io_.described.transports,
                           memory_routes(memory_.regions(), static_cast<bool>(io_.host_link))};
}

caf::result<session_list> transfer_worker_state::on_list(const list_sessions& message) {
    if (!sender_)
        return session_list{};
    auto promise = self_->make_response_promise<session_list>();
    auto both = std::make_shared<std::pair<session_list, int>>(session_list{}, 2);
    auto add = [promise, both](session_list& part) mutable {
        auto& all = both->first;
        all.sessions.insert(all.sessions.end(), part.sessions.begin(), part.sessions.end());
        all.unopened.insert(all.unopened.end(), part.unopened.begin(), part.unopened.end());
        if (--both->second == 0)
            promise.deliver(std::move(both->first));
    };
    auto skip = [add](const caf::error&) mutable {
        session_list none;
        add(none);
    };
    ask(self_, sender_, message).then(add, skip);
    ask(self_, receiver_, message).then(add, skip);
    return promise;
}

caf::result<worker_statistics> transfer_worker_state::on_statistics(const query_statistics&) {
    worker_statistics result;
    result.sessions_opened = counters_->sessions(session_count::opened);
    result.sessions_finished = counters_->sessions(session_count::forgotten);
    result.sessions_live = result.sessions_opened - result.sessions_finished;
    result.sessions_quarantined =
        counters_->sessions(session_count::ended) - result.sessions_finished;
    result.links_live = peers_.linked();
    counters_->add_to(result.ignored);
    result.actors_died = counters_->actors_died.load();
    result.relayed_bytes = counters_->relayed_bytes.load();
    result.relays_given_up = counters_->relays_given_up.load();
    result.sessions_succeeded = counters_->outcomes(errc::none);
    for (auto code = 1; code <= static_cast<int>(errc_last); ++code)
        if (const auto count = counters_->outcomes(static_cast<errc>(code)))
            result.sessions_failed.emplace(static_cast<errc>(code), count);
    result.waited = counters_->waited();
    result.transferred = counters_->transferred();
    result.handler_failures = counters_->handler_failures.load();
    return result;
}

} // namespace kvferry
