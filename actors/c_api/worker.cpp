// SPDX-License-Identifier: Apache-2.0
// Ranks: started, published, asked, ended; and what they tell.
#include "actors/c_api/objects.hpp"
#include "actors/c_api/sized.hpp"

#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace kvferry;
using namespace kvferry::c_api;

namespace kvferry::c_api {

static_assert(sizeof(kvf_statistics::sessions_failed) / sizeof(std::uint64_t)
              > static_cast<std::size_t>(errc_last));
static_assert(KVF_NOT_PROVEN == static_cast<int>(errc_last), "kvferry.h names all of errc");
static_assert(KVF_ROLE_CONTEXT == static_cast<int>(instance_role::context)
              && KVF_ROLE_GENERATION == static_cast<int>(instance_role::generation));
static_assert(KVF_ROUTE_BEST == static_cast<int>(route_choice::automatic)
              && KVF_ROUTE_STAGED == static_cast<int>(route_choice::staged)
              && KVF_ROUTE_STAGED == static_cast<int>(route::staged));

namespace {

constexpr std::size_t events_max_default = 262144;

/// One actor system for all workers of the process: it ends with the last of them.
std::shared_ptr<runtime> shared_runtime() {
    static auto& mutex = *new std::mutex;
    static auto& shared = *new std::weak_ptr<runtime>;
    std::lock_guard lock{mutex};
    auto result = shared.lock();
    if (!result)
        shared = result = std::make_shared<runtime>();
    return result;
}

instance_role role_of(std::uint32_t role, const char* name) {
    if (role > KVF_ROLE_GENERATION)
        refuse(errc::invalid_argument, "{} is {}", name, role);
    return static_cast<instance_role>(role);
}

directory_options directory_of(const kvf_directory* where) {
    directory_options result;
    if (!where)
        return result;
    const auto given = read(where, "kvf_directory");
    result.endpoints = text_or_empty(given.endpoints);
    result.prefix = text_or_empty(given.prefix);
    result.ca_file = text_or_empty(given.ca_file);
    result.cert_file = text_or_empty(given.cert_file);
    result.key_file = text_or_empty(given.key_file);
    result.user = text_or_empty(given.user);
    result.password_file = text_or_empty(given.password_file);
    if (given.lease_seconds != 0)
        result.lease = std::chrono::seconds{given.lease_seconds};
    return result;
}

worker_options options_of(const kvf_worker_options& given) {
    if (given.flags
        & ~std::uint32_t{KVF_NO_SAME_HOST_LINK | KVF_DIGESTS | KVF_NO_INFO_SERVER | KVF_INSECURE
                         | KVF_PLAIN_BULK | KVF_RELAY | KVF_WIRE_DIGESTS})
        refuse(errc::unsupported, "kvf_worker_options.flags is {}", given.flags);
    if (given.port > std::numeric_limits<std::uint16_t>::max())
        refuse(errc::invalid_argument, "kvf_worker_options.port is {}", given.port);
    if (given.route > KVF_ROUTE_STAGED)
        refuse(errc::invalid_argument, "kvf_worker_options.route is {}", given.route);
    const auto place = read(given.place, "kvf_worker_options.place");
    worker_options result;
    result.instance = text_or_empty(given.instance);
    result.layout = place_of(place);
    result.world_size = place.world_size;
    result.bind_address = text_or_empty(given.bind_address);
    result.port = static_cast<std::uint16_t>(given.port);
    result.info_endpoint = text_or_empty(given.info_endpoint);
    result.fingerprint = text_or_empty(given.fingerprint);
    result.route = static_cast<route_choice>(given.route);
    result.same_host_link = (given.flags & KVF_NO_SAME_HOST_LINK) == 0;
    result.info_server = (given.flags & KVF_NO_INFO_SERVER) == 0;
    result.host_link_folder = text_or_empty(given.host_link_folder);
    result.advertise = text_or_empty(given.advertise);
    result.security = {.secret_file = text_or_empty(given.secret_file),
                       .insecure = (given.flags & KVF_INSECURE) != 0,
                       .plain_bulk = (given.flags & KVF_PLAIN_BULK) != 0};
    result.directory = directory_of(given.directory);
    result.role = role_of(given.role, "kvf_worker_options.role");
    const auto* devices = items(given.devices, given.device_count, "kvf_worker_options.devices");
    result.devices.also.assign(devices, devices + given.device_count);
    if (given.multiprocessors != 0)
        result.devices.multiprocessors = given.multiprocessors;
    result.copy_threads = given.copy_threads;
    auto& bounds = result.bounds;
    if ((given.flags & KVF_DIGESTS) != 0)
        bounds.digests = digest_level::memory;
    else if ((given.flags & KVF_WIRE_DIGESTS) != 0)
        bounds.digests = digest_level::wire;
    bounds.relay = (given.flags & KVF_RELAY) != 0;
    if (given.sessions_max != 0)
        bounds.sessions_max = given.sessions_max;
    // The queue is bounded by itself, and taking an event's place never blocks.
    bounds.callbacks_waiting_max = std::numeric_limits<std::uint32_t>::max();
    const auto set = [](std::chrono::milliseconds& bound, std::int64_t value, const char* name) {
        bound = deadline_of(value, name).value_or(bound);
    };
    set(bounds.session_deadline, given.session_deadline_ms, "session_deadline_ms");
    set(bounds.transfer_deadline, given.transfer_deadline_ms, "transfer_deadline_ms");
    set(bounds.info_deadline, given.info_deadline_ms, "info_deadline_ms");
    set(bounds.stop_deadline, given.stop_deadline_ms, "stop_deadline_ms");
    set(bounds.session_age_max, given.session_age_max_ms, "session_age_max_ms");
    set(bounds.session_keep_interval, given.session_keep_interval_ms, "session_keep_interval_ms");
    return result;
}

/// Memory of kvf_memory_new is kept for as long as the rank needs it.
std::shared_ptr<const void> owner_of(const void* base) {
    const auto found =
        memories().all_where([base](const c_memory& each) { return each.region.base == base; });
    return found.empty() ? nullptr : found.front()->owner;
}

memory_kind kind_of(std::uint32_t kind) {
    switch (kind) {
    case KVF_HOST_PRIVATE:
        return memory_kind::host_private;
    case KVF_HOST_SHARED:
        return memory_kind::host_shared;
    case KVF_CUDA:
        return memory_kind::cuda;
    }
    refuse(errc::invalid_argument, "kvf_region.kind is {}", kind);
}

host_region region_of(const kvf_region& given) {
    host_region result;
    result.base = static_cast<std::byte*>(given.base);
    result.bytes = given.bytes;
    result.kind = kind_of(given.kind);
    if (result.kind == memory_kind::host_shared)
        result.memfd = given.memfd;
    result.keep = owner_of(given.base);
    return result;
}

auto is_of(const c_worker& worker) {
    return [&worker](const c_session& each) { return each.of == &worker; };
}

/// Waits for what cannot come any more end.
void give_up(const std::vector<std::shared_ptr<c_session>>& sessions,
             const caf::expected<worker_stopped>& stopped) {
    if (!stopped && code_of(stopped.error()) == errc::not_proven)
        for (const auto& session : sessions)
            session->teller->give_up(stopped.error());
}

using ending = caf::expected<worker_stopped> (kvferry::worker::*)(std::chrono::milliseconds);

int end_worker(kvf_worker* worker, ending how, std::int64_t deadline_ms) {
    return guarded([&] {
        const auto found = workers().find(worker);
        const auto deadline = deadline_of(deadline_ms, "deadline_ms");
        const auto ended = (found->rank.*how)(deadline.value_or(std::chrono::milliseconds{0}));
        give_up(sessions().all_where(is_of(*found)), ended);
        if (!ended)
            throw refusal{ended.error()};
    });
}

} // namespace

} // namespace kvferry::c_api

extern "C" {

int kvf_worker_start(const kvf_worker_options* options, kvf_worker** worker) {
    return guarded([&] {
        auto& result = target(worker, "worker");
        const auto given = read(options, "kvf_worker_options");
        auto wanted = options_of(given);
        const auto stop_deadline = wanted.bounds.stop_deadline;
        auto events = value_of(
            event_queue::make(given.events_max == 0 ? events_max_default : given.events_max));
        auto system = shared_runtime();
        auto rank = value_of(system->start_worker(std::move(wanted)));
        result = as_handle<kvf_worker>(workers().add(std::make_shared<c_worker>(
            std::move(system), std::move(rank), std::move(events), stop_deadline)));
    });
}

int kvf_worker_publish(kvf_worker* worker, const kvf_region* regions, size_t region_count,
                       kvf_pages* pages) {
    return guarded([&] {
        const auto found = workers().find(worker);
        std::vector<host_region> given;
        items(regions, region_count, "regions");
        for (std::size_t index = 0; index < region_count; ++index)
            given.push_back(region_of(read(element(regions, index, "kvf_region"), "kvf_region")));
        const auto described = all_pages().find(pages);
        std::unique_lock lock{described->mutex};
        auto table = described->table;
        lock.unlock();
        value_of(found->rank.publish(std::move(given), std::move(table)));
    });
}

int kvf_worker_unpublish(kvf_worker* worker, int64_t deadline_ms) {
    return guarded([&] {
        const auto found = workers().find(worker);
        const auto deadline = deadline_of(deadline_ms, "deadline_ms");
        refuse_if(found->rank.unpublish(deadline.value_or(std::chrono::milliseconds{0})));
    });
}

int kvf_worker_set_role(kvf_worker* worker, uint32_t role) {
    return guarded([&] {
        const auto found = workers().find(worker);
        refuse_if(found->rank.set_role(role_of(role, "role")));
    });
}

int kvf_worker_endpoint(kvf_worker* worker, char* text, size_t* bytes) {
    return guarded([&] { write_text(workers().find(worker)->rank.info_endpoint(), text, bytes); });
}

int kvf_worker_memory_route(kvf_worker* worker, uint32_t region, char* text, size_t* bytes) {
    return guarded([&] {
        const auto found = workers().find(worker);
        const auto routes = value_of(found->rank.info()).memory_routes;
        if (region >= routes.size())
            refuse(errc::invalid_argument, "region is {}, and {} are published", region,
                   routes.size());
        write_text(routes[region].text, text, bytes);
    });
}

int kvf_worker_info(kvf_worker* worker, void* info, size_t* bytes) {
    return guarded([&] {
        const auto found = workers().find(worker);
        auto& room = target(bytes, "bytes");
        const auto answer = value_of(found->rank.local_info());
        if (const auto had = std::exchange(room, answer.size()); had < answer.size())
            refuse(errc::limit_exceeded, "the info has {} bytes, room for {}", answer.size(), had);
        std::memcpy(&target(static_cast<char*>(info), "info"), answer.data(), answer.size());
    });
}

int kvf_worker_add_instance(kvf_worker* worker, const kvf_bytes* infos, size_t count, char* address,
                            size_t* bytes) {
    return guarded([&] {
        const auto found = workers().find(worker);
        items(infos, count, "infos");
        std::vector<byte_buffer> given;
        for (std::size_t index = 0; index < count; ++index) {
            const auto each = read(element(infos, index, "kvf_bytes"), "kvf_bytes");
            given.push_back(copy_of(static_cast<const byte_buffer::value_type*>(each.data),
                                    each.bytes, "kvf_bytes.data"));
        }
        const auto known_as = value_of(found->rank.add_instance(given));
        if (bytes)
            write_text(known_as, address, bytes);
    });
}

int kvf_worker_remove_instance(kvf_worker* worker, const char* address) {
    return guarded(
        [&] { refuse_if(workers().find(worker)->rank.remove_instance(text_or_empty(address))); });
}

int kvf_worker_statistics(kvf_worker* worker, kvf_statistics* statistics) {
    return guarded([&] {
        const auto found = workers().find(worker);
        const auto size = size_of(statistics, "kvf_statistics");
        const auto asked = value_of(found->rank.statistics());
        kvf_statistics result{};
        result.sessions_opened = asked.sessions_opened;
        result.sessions_finished = asked.sessions_finished;
        result.sessions_live = asked.sessions_live;
        result.sessions_quarantined = asked.sessions_quarantined;
        result.links_live = asked.links_live;
        result.events_waiting = found->events->waiting();
        result.handler_failures = asked.handler_failures;
        result.sessions_succeeded = asked.sessions_succeeded;
        result.waited_ns = static_cast<std::uint64_t>(asked.waited.count());
        result.transferred_ns = static_cast<std::uint64_t>(asked.transferred.count());
        for (const auto& [code, count] : asked.sessions_failed)
            result.sessions_failed[static_cast<std::size_t>(code)] = count;
        write(statistics, size, result);
    });
}

int kvf_worker_stop(kvf_worker* worker, int64_t deadline_ms) {
    return end_worker(worker, &kvferry::worker::stop, deadline_ms);
}

int kvf_worker_drain(kvf_worker* worker, int64_t deadline_ms) {
    return end_worker(worker, &kvferry::worker::drain, deadline_ms);
}

int kvf_worker_free(kvf_worker* worker) {
    return guarded([&] {
        if (!worker)
            return;
        const auto removed = workers().remove(worker);
        const auto left = sessions().remove_where(is_of(*removed));
        // Here, not where the last call of another thread returns. It logs what is kept.
        give_up(left, removed->rank.stop(removed->stop_deadline));
        removed->events->close();
    });
}

int kvf_worker_event_fd(kvf_worker* worker, int* fd) {
    return guarded([&] { target(fd, "fd") = workers().find(worker)->events->fd(); });
}

int kvf_worker_events(kvf_worker* worker, kvf_event* events, size_t max, size_t* count) {
    return guarded([&] {
        auto& taken = target(count, "count");
        taken = 0;
        const auto found = workers().find(worker);
        if (max > 0)
            taken = found->events->take(events, size_of(events, "kvf_event"), max);
    });
}

int kvf_worker_wait(kvf_worker* worker, int64_t timeout_ms) {
    return guarded([&] {
        const auto found = workers().find(worker);
        if (!value_of(found->events->wait(patience_of(timeout_ms, "timeout_ms"))))
            refuse(errc::deadline_exceeded, "no event after {} ms", timeout_ms);
    });
}

} // extern "C"
