// SPDX-License-Identifier: Apache-2.0
// Puts a rank together, step by step; each step can fail.
#include "actors/host/worker_parts.hpp"

#include "actors/host/ask_blocking.hpp"
#include "actors/host/configure.hpp"
#include "actors/host/loopback_world.hpp"
#include "actors/host/own_address.hpp"
#include "actors/instance/carried_instances.hpp"
#include "actors/instance/info_link.hpp"
#include "actors/instance/instance_book.hpp"
#include "actors/instance/rank_info_server.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/copy/copy_team.hpp"
#include "transport/host_link/host_link.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/threads.hpp"
#include "transport/loopback/loopback_host_link.hpp"
#include "transport/planner/layout/topology.hpp"
#include "transport/same_host/machine_id.hpp"
#include "transport/tcp/tcp_wire.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

namespace kvferry {

namespace {

/// A loop, the host's callbacks, UCX's thread, questions to an info server, the log; those that
/// copy, and where they are asked for one for metrics, one for spans and two for a directory, come
/// on top. Those that libraries make late, and fail to make without a name, are why all are asked
/// for before.
constexpr std::size_t threads_of_a_rank = 5;

std::size_t copy_threads(const worker_options& options) {
    if (options.copy_threads != 0)
        return options.copy_threads;
    return std::clamp<std::size_t>(std::thread::hardware_concurrency() / 4, 1, 8);
}

std::uint64_t random_number() {
    std::random_device entropy;
    return (std::uint64_t{entropy()} << 32) | entropy();
}

/// True when the actor is gone, and its descriptors with it.
template <class Handle>
bool kill(caf::actor_system& system, const Handle& actor, std::chrono::milliseconds patience) {
    if (!actor)
        return true;
    host_actor self{system, true};
    self->monitor(actor);
    self->send_exit(actor, caf::exit_reason::kill);
    bool gone = false;
    self->receive([&gone](const caf::down_msg&) { gone = true; }, caf::after(patience) >> [] {});
    if (!gone)
        logger().error("an actor of a rank that ends runs on after {} ms: its thread does not "
                       "return",
                       patience.count());
    return gone;
}

} // namespace

/// To encrypt a byte takes about as long as to move it.
std::size_t worker::parts::tcp_threads() const {
    if (options.tcp_threads != 0)
        return options.tcp_threads;
    const auto threads = copy_threads(options);
    const tcp_options how{.secured = secured, .plain_bulk = options.security.plain_bulk};
    return threads > 1 && how.encrypts() ? 2 * threads : threads;
}

/// Counts the steps, and makes one of them fail when a test wants it to.
caf::error worker::parts::step(const char* what) {
    if (++steps_ != options.fail_at_step)
        return {};
    return make_error(errc::unsupported, "step {} ({}) was made to fail by fail_at_step", steps_,
                      what);
}

caf::error worker::parts::make() {
    auto problem = make_all();
    if (problem && !undo(false))
        process_life::keep(shared_from_this());
    return problem;
}

caf::error worker::parts::make_all() {
    calls = std::make_shared<host_calls>(options.bounds.host_calls_max);
    const counting_for rank{counters};
    if (auto problem = check_prepared(*system))
        return problem;
    if (auto problem = check_options())
        return problem;
    raise_descriptor_limit();
    // With less no link would ever come up, and UCX ends the process in the middle of its start.
    if (auto problem = check_descriptors(descriptors_of_a_rank + descriptors_reserve))
        return add_context(problem, "a rank");
    if (auto problem = check_threads("a rank", threads_of_a_rank + copy_threads(options)
                                                   + (tcp_threads() > 1 ? tcp_threads() : 0)
                                                   + (options.metrics.empty() ? 0 : 1)
                                                   + (options.spans.empty() ? 0 : 1)
                                                   + (options.directory.endpoints.empty() ? 0 : 2)))
        return problem;
    if (auto problem = make_spans())
        return problem;
    if (auto problem = make_threads())
        return problem;
    if (auto problem = make_rank())
        return problem;
    if (auto problem = make_info())
        return problem;
    if (auto problem = make_directory())
        return problem;
    say_rank_is_made();
    return make_metrics();
}

/// What has an incarnation: made anew when the pools are withdrawn.
caf::error worker::parts::make_rank() {
    const counting_for rank{counters};
    counters->phase = rank_phase::starting;
    identity.incarnation = {random_number()};
    identity.token = {random_number()};
    identity.host_link_name = host_link_name(identity.incarnation);
    placement home{loop.get()};
    actor = spawn_at<transfer_worker_actor, transfer_worker_state>(
        *system, home,
        transfer_worker_state::dependencies{.home = home,
                                            .bounds = options.bounds,
                                            .route = options.route,
                                            .identity = identity,
                                            .seed = random_number(),
                                            .counters = counters,
                                            .openers = openers});
    if (auto problem = make_fabric())
        return problem;
    if (auto problem = make_host_link())
        return problem;
    if (auto problem = step("copy_io"))
        return problem;
    std::vector<copy_actor> copiers;
    for (const auto& each : copy_loops)
        copiers.push_back(spawn_copy_io(*system, placement{each.get()}, {options.bounds}));
    io.copy = copiers.size() == 1
                  ? copiers.front()
                  : spawn_copy_team(*system, home,
                                    {std::move(copiers), options.bounds.copy_piece_bytes_max});
    return {};
}

caf::error worker::parts::check_options() {
    const auto& layout = options.layout;
    auto ranks = layout.tp_size * layout.pp_size * layout.cp_size;
    identity.instance = options.instance;
    identity.world_size = options.world_size ? options.world_size : ranks;
    identity.layout = layout;
    identity.machine = options.machine.empty() ? machine_id() : options.machine;
    identity.fingerprint = options.fingerprint;
    counters =
        std::make_shared<rank_counters>(identity.instance + "/" + to_string(instance_rank(layout)));
    rank_info self;
    self.instance = identity.instance;
    self.layout = layout;
    self.rank = instance_rank(layout);
    self.world_size = identity.world_size;
    if (options.instance.empty())
        return make_error(errc::invalid_argument,
                          "worker_options.instance is empty: name the instance");
    if (auto problem = check_protocol())
        return problem;
    if (auto problem = check_directory())
        return problem;
    if (options.fingerprint.size() > options.bounds.fingerprint_bytes_max)
        return make_error(errc::limit_exceeded,
                          "worker_options.fingerprint has {} bytes, fingerprint_bytes_max is {}: "
                          "use a digest of it",
                          options.fingerprint.size(), options.bounds.fingerprint_bytes_max);
    if (auto problem = check_parallelism(self))
        return add_context(make_error(errc::invalid_argument, text_of(problem)),
                           "worker_options.layout");
    if (!options.info_server && !options.info_endpoint.empty())
        return make_error(errc::invalid_argument,
                          "worker_options.info_server is off: leave info_endpoint empty, the host "
                          "carries the infos of all ranks");
    const auto serves = self.rank.value == 0;
    if (options.info_server && serves && !options.info_endpoint.empty())
        return make_error(errc::invalid_argument,
                          "rank 0 serves the rank infos itself: leave worker_options.info_endpoint "
                          "empty");
    if (options.info_server && !serves && options.info_endpoint.empty())
        return make_error(errc::invalid_argument,
                          "rank {} needs worker_options.info_endpoint, the endpoint of rank 0",
                          self.rank);
    if (auto problem = check_security())
        return problem;
    return step("options");
}

/// The version that the host wants, else that of the environment.
caf::error worker::parts::check_protocol() {
    auto& version = options.bounds.protocol;
    const char* text = std::getenv("KVFERRY_PROTOCOL");
    if (version == protocol_version && text && *text) {
        const auto* end = text + std::strlen(text);
        const auto read = std::from_chars(text, end, version);
        if (read.ec != std::errc{} || read.ptr != end)
            return make_error(errc::invalid_argument, "KVFERRY_PROTOCOL is '{}', not a number",
                              text);
    }
    if (version < oldest_protocol_version || version > protocol_version)
        return make_error(errc::invalid_argument,
                          "limits::protocol is {}, this release speaks versions {} to {}", version,
                          oldest_protocol_version, protocol_version);
    return {};
}

/// Who is served, and whether the addresses of this rank go with it.
caf::error worker::parts::check_security() {
    if (options.world)
        return {};
    auto made = security::make(options.security);
    if (!made)
        return std::move(made.error());
    secured = std::move(*made);
    if (!options.bind_address.empty()) {
        auto address = address_of(options.bind_address, options.bounds.info_deadline);
        if (!address)
            return add_context(address.error(), "worker_options.bind_address");
        options.bind_address = std::move(*address);
    }
    if (!options.bind_address.empty())
        if (auto problem = secured->check_bind(options.bind_address))
            return add_context(problem, "worker_options.bind_address");
    if (auto problem = secured->check_bind(advertised_host(options));
        problem && !options.advertise.empty())
        return add_context(problem, "worker_options.advertise");
    if (auto rank_0 = parse_info_endpoint(options.info_endpoint))
        if (auto problem = secured->check_dial(rank_0->host))
            return add_context(problem, "worker_options.info_endpoint");
    return {};
}

void worker::parts::name_thread(io_loop& of, const char* role) const {
    auto rank = identity.instance + "/" + to_string(instance_rank(identity.layout));
    of.post([rank = std::move(rank), role = std::string{role}] { trace::name_thread(rank, role); });
}

caf::error worker::parts::make_threads() {
    if (auto problem = step("loop thread"))
        return problem;
    auto made = io_loop::make(*system, {"kvferry-loop", options.bounds.loop_spin});
    if (!made)
        return add_context(made.error(), "loop thread");
    loop = std::move(*made);
    name_thread(*loop, "loop");
    if (auto problem = step("copy thread"))
        return problem;
    for (std::size_t index = 0; index < copy_threads(options); ++index) {
        auto copies = io_loop::make(*system, {"kvferry-copy", options.bounds.loop_spin});
        if (!copies)
            return add_context(copies.error(), "copy thread");
        name_thread(**copies, "copies");
        copy_loops.push_back(std::move(*copies));
    }
    if (auto problem = step("callback thread"))
        return problem;
    auto runs = callback_runner::make(owner, counters);
    if (!runs)
        return std::move(runs.error());
    callbacks = std::move(*runs);
    return {};
}

caf::error worker::parts::make_host_link() {
    if (!options.same_host_link)
        return {};
    if (auto problem = step("same-host link"))
        return problem;
    auto made =
        options.world
            ? spawn_loopback_host_link(*system, placement{loop.get()},
                                       {options.world->host_links(), identity.incarnation,
                                        identity.host_link_name, identity.token, options.bounds})
            : spawn_host_link(*system,
                              {loop.get(), identity.incarnation, identity.host_link_name,
                               identity.token, options.bounds,
                               std::make_shared<host_link_counters>(), options.host_link_folder});
    if (!made)
        return add_context(made.error(), "same-host link");
    io.host_link = *made;
    return {};
}

caf::error worker::parts::make_info() {
    if (auto problem = step("info link"))
        return problem;
    servers = options.world ? options.world->info_link()
                            : spawn_info_link(*system, placement{}, {options.bounds, secured});
    const auto own = options.info_server ? std::string{} : carried_address(options.instance);
    book = spawn_instance_book(*system, placement{},
                               {own, options.bounds.instances_added_max, servers});
    io.info_link = book;
    io.info_endpoint = options.info_server ? options.info_endpoint : own;
    if (!options.info_server)
        return {};
    if (instance_rank(identity.layout).value != 0) {
        auto problem = make_teller();
        return problem ? problem : open_door();
    }
    if (auto problem = step("rank-info server"))
        return problem;
    io.server = spawn_rank_info_server(*system, placement{},
                                       {identity.instance, identity.world_size, options.bounds});
    if (auto problem = make_teller())
        return problem;
    const auto bind = options.bind_address.empty() ? "127.0.0.1" : options.bind_address;
    auto published = ask_blocking<info_server_published>(
        *system, io.info_link, publish_info_server{io.server, bind, options.port, teller},
        options.bounds.info_deadline);
    if (!published)
        return add_context(published.error(), "rank-info server");
    info_door = published->door;
    auto bound = parse_info_endpoint(published->endpoint);
    if (!bound)
        return std::move(bound.error());
    auto known_as = addresses().for_others(*bound);
    if (!known_as)
        return std::move(known_as.error());
    io.advertised = std::move(*known_as);
    if (is_wildcard(bound->host)) // the rank itself needs no way around
        bound->host = bound->host.find(':') == std::string::npos ? "127.0.0.1" : "::1";
    io.info_endpoint = to_string(*bound);
    return {};
}

std::vector<std::string> worker::parts::shut_out() {
    const auto problem = ask_blocking_for_success(*system, io.fabric, forbid_all_writes{},
                                                  options.bounds.info_deadline);
    std::vector<std::string> at_risk;
    for (std::size_t index = 0; index < regions.size(); ++index) {
        const auto& region = regions[index];
        const auto mapped = io.host_link && region.kind != memory_kind::host_private;
        if (region.keep || (!mapped && !problem && io.described.by_message))
            continue;
        at_risk.push_back("region " + std::to_string(index) + " (" + to_string(region.kind)
                          + ") must stay as it is: "
                          + (problem  ? "the fabric does not answer: " + describe(problem)
                             : mapped ? std::string{"peers may have mapped it"}
                                      : std::string{"RMA hardware may write it"}));
    }
    return at_risk;
}

/// Ends the actors first, so that nothing runs on a thread that ends. An actor releases its I/O
/// objects on stop_io or, if it never gets there, when it ends.
bool worker::parts::undo(bool io_has_stopped) {
    end_metrics();
    auto bounded = options.bounds.stop_deadline;
    if (callbacks)
        callbacks->close();
    bool ended = true;
    const auto end = [&](const auto& which) { ended = kill(*system, which, bounded) && ended; };
    if (!io_has_stopped) {
        auto stop = [&](const auto& io_actor) {
            if (!io_actor)
                return;
            if (auto problem = ask_blocking_for_success(*system, io_actor, stop_io{}, bounded)) {
                logger().error("undoing the start of a worker: {}", describe(problem));
                ended = ended && code_of(problem) != errc::deadline_exceeded;
            }
        };
        stop(io.host_link);
        stop(io.copy);
        for (const auto& [ordinal, device] : devices)
            stop(device);
        stop(io.fabric);
        end(actor);
    }
    end(io.server);
    end(teller);
    end(info_door);
    teller = rank_teller_actor{};
    info_door = nullptr;
    end_directory();
    end(book);
    if (!options.world) // a world's info link serves others too
        end(servers);
    if (!ended)
        return false;
    io = {};
    book = instance_book_actor{};
    servers = info_link_actor{};
    devices.clear();
    device_loops.clear();
    copy_loops.clear();
    loop.reset();
    return true;
}

} // namespace kvferry
