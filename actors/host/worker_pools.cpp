// SPDX-License-Identifier: Apache-2.0
// A rank's pools, published and withdrawn, the instances that it is told of, and its links before
// the first request.
#include "actors/discovery/directory_options.hpp"
#include "actors/host/worker_parts.hpp"
#include "actors/instance/carried_instances.hpp"
#include "messages/local/info_exchange.hpp"
#include "messages/local/links.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/host_link/memory_mapping.hpp"
#include "transport/planner/layout/cohorts.hpp"
#include "transport/planner/layout/topology.hpp"

#include <algorithm>
#include <set>
#include <thread>
#include <utility>

namespace kvferry {

namespace {

using clock = std::chrono::steady_clock;

/// Between two looks at the sessions of a rank that is about to withdraw its pools.
constexpr std::chrono::milliseconds look_again_after{2};

/// Names what was looked up, and where.
caf::error not_found(const std::string& endpoint, const directory_options& directory,
                     const caf::error& reason) {
    const auto name = listed_name(endpoint);
    if (name.empty() || code_of(reason) != errc::deadline_exceeded)
        return add_context(reason, endpoint);
    return make_error(errc::deadline_exceeded,
                      "instance '{}' was looked up in etcd ({}): {}; see with `kvferry instances` "
                      "whether etcd answers and lists it",
                      name, directory.endpoints, text_of(reason));
}

std::chrono::milliseconds left_until(clock::time_point until) {
    return std::max(std::chrono::ceil<std::chrono::milliseconds>(until - clock::now()),
                    std::chrono::milliseconds{0});
}

/// Ranks of the context that a generation rank hears from, of one DP group or of all.
caf::expected<std::set<rank_id>> writers_for(const rank_info& self,
                                             const std::vector<rank_info>& context,
                                             std::optional<std::uint32_t> dp_rank) {
    const auto first = dp_rank.value_or(0);
    const auto last = dp_rank ? *dp_rank : dp_size(context.front().layout) - 1;
    auto found = cohorts_of_groups(self, context, first, last, {});
    if (!found)
        return std::move(found.error());
    std::set<rank_id> result;
    for (const auto& group : *found) {
        result.insert(group.kv.begin(), group.kv.end());
        result.insert(group.aux.begin(), group.aux.end());
    }
    return result;
}

} // namespace

caf::expected<rank_info> worker::publish(std::vector<host_region> regions, page_table pages) {
    if (!parts_)
        return parts::moved_away();
    const call_that_spawns here;
    {
        auto open = parts_->calls->visit_and_wait();
        if (!open)
            return std::move(open.error());
        process_life::begin(); // after all static objects of CAF were made
        for (std::size_t index = 0; index < regions.size() && !parts_->options.world; ++index)
            if (const auto& region = regions[index]; region.kind == memory_kind::host_shared)
                if (auto problem = check_shareable(region.memfd, region.bytes))
                    return add_context(problem,
                                       "region {} cannot be shared: seal its memfd with "
                                       "F_SEAL_SHRINK, or publish it as host_private",
                                       index);
        if (auto problem = parts_->make_devices(regions))
            return problem;
        parts_->regions = regions;
    }
    auto reply = ask<pools_registered>(register_pools{std::move(regions), std::move(pages)},
                                       2 * parts_->options.bounds.info_deadline);
    if (!reply)
        return std::move(reply.error());
    return std::move(reply->info);
}

caf::error worker::unpublish(std::chrono::milliseconds deadline) {
    if (!parts_)
        return parts::moved_away();
    const call_that_spawns here;
    return parts_->withdraw(deadline);
}

/// A session that the host opens meanwhile is cancelled, and ends before the pools are withdrawn.
caf::error worker::parts::withdraw(std::chrono::milliseconds deadline) {
    if (auto problem = process_life::check()) // the lock's holder may have stayed in the parent
        return problem;
    if (auto problem = check_may_wait())
        return problem;
    const auto until = clock::now() + deadline;
    std::lock_guard lock{stopping};
    if (auto problem = await_no_session(until))
        return problem;
    if (auto problem = end_rank(std::max(left_until(until), options.bounds.stop_deadline)))
        return problem;
    {
        std::lock_guard devices_lock{devices_mutex_};
        devices.clear();
    }
    io.fabric = fabric_actor{};
    io.host_link = host_link_actor{};
    io.copy = copy_actor{};
    device_loops.clear();
    staging.clear();
    landing.clear();
    regions.clear();
    if (auto problem = make_rank()) {
        if (!undo(false))
            process_life::keep(shared_from_this());
        return add_context(problem, "{} has withdrawn its pools and could not go on", name());
    }
    say_rank_is_made();
    logger().info("{}: pools withdrawn; incarnation {} from now on", name(),
                  identity.incarnation.value);
    calls->reopen();
    return {};
}

caf::error worker::parts::await_no_session(clock::time_point until) {
    for (;;) {
        auto open = calls->visit();
        if (!open)
            return std::move(open.error());
        const auto opening = calls->waiting() > 0; // their sessions may not be listed yet
        auto all = ask_blocking<session_list>(*system, actor, list_sessions{},
                                              options.bounds.info_deadline);
        if (!all)
            return std::move(all.error());
        if (all->sessions.empty() && !opening)
            return {};
        if (clock::now() >= until && all->sessions.empty())
            return make_error(errc::deadline_exceeded,
                              "{} keeps its pools: calls of its host are still under way", name());
        if (clock::now() >= until) {
            const auto& first = all->sessions.front();
            return make_error(errc::deadline_exceeded,
                              "{} keeps its pools: {} sessions have not released them, among them "
                              "rid {}, which waits for {}",
                              name(), all->sessions.size(), first.request, first.waits_for);
        }
        open->unlock();
        std::this_thread::sleep_for(look_again_after);
    }
}

caf::expected<byte_buffer> worker::local_info() const {
    auto self = info();
    if (!self)
        return std::move(self.error());
    if (!self->info.pages)
        return make_error(errc::missing_layout, "{} has no pools: publish them first",
                          describe(self->info));
    return bytes_of(self->info, parts_->options.bounds);
}

caf::expected<std::string> worker::add_instance(const std::vector<byte_buffer>& infos) {
    if (!parts_)
        return parts::moved_away();
    auto ranks = instance_from(infos, parts_->options.bounds);
    if (!ranks)
        return std::move(ranks.error());
    auto address = carried_address(ranks->front().instance);
    if (parts_->options.info_server && ranks->front().instance == parts_->options.instance)
        return make_error(errc::invalid_argument,
                          "\"{}\" is the own instance, whose ranks its rank-info server tells",
                          parts_->options.instance);
    if (auto problem = parts_->tell_of_instance({address, std::move(*ranks)}))
        return problem;
    return address;
}

caf::error worker::remove_instance(const std::string& address) {
    if (!parts_)
        return parts::moved_away();
    return parts_->tell_of_instance({address, {}});
}

/// The book first: whoever asks it after this call is answered by it.
caf::error worker::parts::tell_of_instance(kvferry::add_instance message) {
    auto open = calls->visit_and_wait();
    if (!open)
        return std::move(open.error());
    if (auto problem =
            ask_blocking_for_success(*system, book, message, options.bounds.info_deadline))
        return problem;
    return ask_blocking_for_success(*system, actor, std::move(message),
                                    options.bounds.info_deadline);
}

caf::error worker::connect(const context_address& context, std::chrono::milliseconds deadline) {
    const auto until = clock::now() + deadline;
    auto self = info();
    if (!self)
        return std::move(self.error());
    auto open = parts_->calls->visit();
    if (!open)
        return std::move(open.error());
    const auto soon = deadline - deadline / 16; // its own reason is heard before the time is over
    auto found = ask_blocking<instance_info>(*parts_->system, parts_->io.info_link,
                                             fetch_instance_info{context.endpoint, soon}, deadline);
    if (!found)
        return not_found(context.endpoint, parts_->options.directory, found.error());
    if (found->ranks.empty())
        return make_error(errc::instance_incomplete, "{} names no rank", context.endpoint);
    auto writers = writers_for(self->info, found->ranks, context.dp_rank);
    if (!writers)
        return std::move(writers.error());
    std::vector<const rank_info*> peers;
    for (const auto& rank : found->ranks)
        if (writers->contains(rank.rank))
            peers.push_back(&rank);
    for (const auto* peer : peers) // all dial at once
        if (auto linked = ask_blocking<peer_connected>(*parts_->system, parts_->actor,
                                                       connect_peer{*peer}, left_until(until));
            !linked)
            return add_context(linked.error(), describe(*peer));
    for (const auto* peer : peers)
        if (auto problem = ask_blocking_for_success(
                *parts_->system, parts_->actor, await_peer{peer->incarnation}, left_until(until)))
            return add_context(problem, describe(*peer));
    return {};
}

} // namespace kvferry
