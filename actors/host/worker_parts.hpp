// SPDX-License-Identifier: Apache-2.0
// What a running rank is made of, the steps in which it is put together, and their undoing.
#pragma once

#include "actors/host/ask_blocking.hpp"
#include "actors/host/callback_runner.hpp"
#include "actors/host/process_life.hpp"
#include "actors/host/rank_addresses.hpp"
#include "actors/host/worker.hpp"
#include "actors/metrics/process_metrics.hpp"
#include "actors/rank/transfer_worker.hpp"
#include "actors/spans/span_sender.hpp"
#include "messages/local/info_exchange.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/secure/security.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace kvferry {

/// Members in the order in which they are made; undo() reverses it.
struct worker::parts final : ends_with_process, observed_rank, std::enable_shared_from_this<parts> {
    /// Of the actor system, when that is a runtime's.
    std::shared_ptr<void> owner;
    caf::actor_system* system = nullptr;
    worker_options options;
    rank_identity identity;
    /// Null in a loopback world.
    security_ptr secured;
    /// By device: bytes leave it through `staging` and reach it through `landing`. Devices pin this
    /// memory and end before it.
    std::map<int, memfd_pool> staging;
    std::map<int, memfd_pool> landing;
    std::unique_ptr<io_loop> loop;
    std::vector<std::unique_ptr<io_loop>> copy_loops;
    std::map<int, std::unique_ptr<io_loop>> device_loops;
    /// Independent of the rank: what waits when the rank has ended is run all the same.
    std::shared_ptr<callback_runner> callbacks;
    std::shared_ptr<host_calls> calls;
    rank_counters_ptr counters = std::make_shared<rank_counters>();
    /// Null: nobody asked for them.
    std::shared_ptr<process_metrics> metrics;
    std::shared_ptr<span_sender> spans;
    transfer_worker_actor actor;
    adopt_io io;
    /// Asks rank-info servers; `io` has the book before it.
    info_link_actor servers;
    instance_book_actor book;
    /// Null without a directory, the writer also on other ranks than 0; `io` has the names in
    /// front.
    directory_reader_actor reader;
    directory_writer_actor writer;
    /// Of the rank that is made now; filled on its loop.
    const session_openers_ptr openers = std::make_shared<session_openers>();
    named_instances_actor names;
    std::map<int, device_actor> devices;
    /// Answers people who ask what the rank does; null when it has no port.
    rank_teller_actor teller;
    /// Listens for the rank-info server of rank 0, and for the teller.
    caf::actor info_door;
    /// Held while it stops.
    std::mutex stopping;
    /// As published.
    std::vector<host_region> regions;

    /// Makes everything; on failure undoes what was made and says which step failed.
    caf::error make();

    caf::expected<worker_stopped> stop(std::chrono::milliseconds deadline);
    caf::expected<worker_stopped> drain(std::chrono::milliseconds deadline);
    bool end_with_process() override;

    /// Stops the rank if it runs, and ends with it. On a thread of its own: the calling one may
    /// have lost CAF's thread-local state.
    static void end(std::shared_ptr<parts>);

    /// Finds out on which device each region lies, and gives every such device its actor. On
    /// failure the devices made so far stay, for another try.
    caf::error make_devices(std::vector<host_region>&);

    /// A device that can look at events of the host; null without devices.
    device_actor any_device() const;

    /// Waits until no session is left, then ends the rank in order and makes it anew, without pools
    /// and as another incarnation.
    caf::error withdraw(std::chrono::milliseconds deadline);

    /// An instance that the host has carried here, or wants forgotten.
    caf::error tell_of_instance(kvferry::add_instance);
    rank_facts facts() const override;
    std::string why_not_live(std::chrono::milliseconds within) override;
    std::string why_not_ready(std::chrono::milliseconds within) override;

    /// "rank 0 of context".
    std::string name() const;

    /// After an unclean stop: shuts out what peers send. Returns the regions without an owner that
    /// they may still reach in another way.
    std::vector<std::string> shut_out();

    /// What a worker answers that was moved away.
    static caf::error moved_away();

private:
    /// Ends all actors and threads of a rank that never ran, or has stopped. False: one of them did
    /// not end within limits::stop_deadline; then all threads are left as they are.
    bool undo(bool io_has_stopped);
    caf::error not_proven(const std::string& what);
    caf::error step(const char* what);
    caf::error make_all();
    caf::error make_rank();
    caf::error await_no_session(std::chrono::steady_clock::time_point until);
    caf::error end_rank(std::chrono::milliseconds deadline);
    caf::error check_options();
    /// Of the tcp wire, as tcp_options counts them.
    std::size_t tcp_threads() const;
    caf::error check_security();
    caf::error check_protocol();
    caf::error check_directory();
    caf::error make_threads();
    /// Says in traces what the thread of this loop is for.
    void name_thread(io_loop& of, const char* role) const;
    caf::error make_fabric();
    caf::expected<std::unique_ptr<wire>> make_wires(const std::string& net_devices,
                                                    const rank_addresses::tcp_place&);
    static void say_version();
    void say_who_is_served() const;
    rank_addresses addresses() const;
    caf::error make_host_link();
    caf::error make_info();
    caf::error make_teller();
    caf::error open_door();
    void say_rank_is_made();
    caf::error make_directory();
    void say_draining() const;
    void end_directory();
    caf::error make_metrics();
    caf::error make_spans();
    void end_metrics();
    /// By name. Under host_calls::visit(): they end otherwise.
    std::vector<std::pair<std::string, io_loop*>> all_loops() const;
    /// True when host memory plays the devices' part.
    bool has_twins() const;
    caf::expected<int> device_of(const host_region&) const;
    caf::error make_device(int ordinal, const std::set<int>& all);

    /// Of `devices` and their loops, which others look at while pools are published.
    mutable std::mutex devices_mutex_;
    int steps_ = 0;
};

template <class Reply, class Message>
caf::expected<Reply> worker::ask(Message message,
                                 std::optional<std::chrono::milliseconds> deadline) const {
    if (!parts_)
        return parts::moved_away();
    auto open = parts_->calls->visit_and_wait();
    if (!open)
        return std::move(open.error());
    return ask_blocking<Reply>(*parts_->system, parts_->actor, std::move(message),
                               deadline.value_or(parts_->options.bounds.info_deadline));
}

} // namespace kvferry
