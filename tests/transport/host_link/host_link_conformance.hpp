// SPDX-License-Identifier: Apache-2.0
// Two worlds in which the ranks of one test have same-host links: real sockets, and the twin.
#pragma once

#include "messages/local/copies.hpp"
#include "messages/trace/handle.hpp"
#include "tests/support/real_system.hpp"
#include "transport/host_link/host_link.hpp"
#include "transport/host_link/memfd_pool.hpp"
#include "transport/loopback/loopback_host_link.hpp"
#include "transport/same_host/unix_socket.hpp"

#include <caf/scoped_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <doctest/doctest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <unistd.h>
#include <vector>

namespace kvferry::testing {

inline constexpr std::chrono::seconds patience{20};

/// One message to an owner of links.
struct link_event {
    enum class kind { up, down, gone };
    kind what;
    incarnation peer;
    errc reason = errc::none;
    std::vector<mapped_region> mapped;
    bool process_watched = false;
    std::map<std::uint32_t, std::string> obstacles = {};
    std::map<std::uint32_t, device_chunks> chunks = {};
};

/// An owner of links that only remembers its messages. Its handle may be used from any thread.
class link_owner {
public:
    explicit link_owner(caf::actor_system& system)
        : system_(system),
          handle_(system.spawn([log = log_]() -> host_link_owner_actor::behavior_type {
              using kind = link_event::kind;
              return {
                  [log](const host_link_up& x) {
                      log->add({kind::up, x.peer, errc::none, x.mapped, x.process_watched,
                                x.obstacles, x.chunks});
                  },
                  [log](const host_link_down& x) {
                      log->add({kind::down, x.peer, code_of(x.reason), {}, false});
                  },
                  [log](const process_gone& x) {
                      log->add({kind::gone, x.peer, errc::none, {}, false});
                  },
              };
          })) {}

    ~link_owner() { caf::anon_send_exit(handle_, caf::exit_reason::kill); }

    const host_link_owner_actor& handle() const { return handle_; }

    /// The first `count` events; fewer when they do not come in time.
    std::vector<link_event> wait_for(std::size_t count) {
        std::unique_lock guard{log_->mutex};
        log_->changed.wait_for(guard, patience, [&] { return log_->events.size() >= count; });
        return log_->events;
    }

    /// All events. Call it only when no more can come than are already in the mailbox.
    std::vector<link_event> all() {
        caf::scoped_actor self{system_};
        caf::anon_send_exit(handle_, caf::exit_reason::user_shutdown); // after all its mail
        self->wait_for(handle_);
        return wait_for(0);
    }

    /// "up 7, down 7 link_lost, gone 7".
    static std::string print(const std::vector<link_event>& events) {
        std::string result;
        for (const auto& event : events) {
            result += result.empty() ? "" : ", ";
            if (event.what == link_event::kind::up)
                result += "up " + to_string(event.peer);
            else if (event.what == link_event::kind::down)
                result += "down " + to_string(event.peer) + " " + to_string(event.reason);
            else
                result += "gone " + to_string(event.peer);
        }
        return result;
    }

private:
    struct log {
        std::mutex mutex;
        std::condition_variable changed;
        std::vector<link_event> events;

        void add(link_event event) {
            std::lock_guard guard{mutex};
            events.push_back(std::move(event));
            changed.notify_all();
        }
    };

    caf::actor_system& system_;
    std::shared_ptr<log> log_ = std::make_shared<log>();
    host_link_owner_actor handle_;
};

/// A rank with one pool, its links and their owner.
struct linked_rank {
    incarnation id;
    std::string name;
    link_token token;
    memfd_pool pool;
    host_link_actor links;
    std::unique_ptr<link_owner> owner;

    void dial(const linked_rank& peer, std::chrono::milliseconds deadline = patience) const {
        dial(peer.id, peer.name, peer.token, deadline);
    }
    void dial(incarnation peer, std::string at, link_token shown,
              std::chrono::milliseconds deadline = patience) const {
        tell_from_outside(links,
                          host_link_dial{peer, std::move(at), shown, deadline, owner->handle()});
    }
    void expect(incarnation peer, std::chrono::milliseconds deadline = patience) const {
        tell_from_outside(links, host_link_expect{peer, deadline, owner->handle()});
    }
    void close(incarnation peer) const { tell_from_outside(links, host_link_close{peer}); }
    std::string told(std::size_t count) const { return link_owner::print(owner->wait_for(count)); }
};

/// The common part of both worlds.
class link_world {
public:
    virtual ~link_world() = default;

    caf::actor_system& system() { return real_.system(); }

    linked_rank rank(std::uint64_t id, limits bounds = {}) {
        auto pool = memfd_pool::make("rank-" + std::to_string(id), 16384);
        REQUIRE_MESSAGE(pool, describe(pool.error()));
        // Unique on the machine: tests may run more than once at a time.
        auto name = "kvferry-test-" + std::to_string(::getpid()) + "-" + std::to_string(id);
        linked_rank result{incarnation{id},  name, link_token{id * 1000},
                           std::move(*pool), {},   std::make_unique<link_owner>(system())};
        auto links = spawn(result, bounds);
        REQUIRE_MESSAGE(links, describe(links.error()));
        result.links = *links;
        spawned_.push_back(*links);
        share(result, {3, result.pool.fd(), result.pool.bytes(), result.pool.base()});
        return result;
    }

    /// Returns when the region is shared: links made from now on include it, and the rank's links
    /// have done all earlier work.
    void share(const linked_rank& rank, const share_region& region) {
        caf::scoped_actor self{system()};
        self->request(rank.links, patience, region)
            .receive([] {}, [](const caf::error& error) { FAIL(describe(error)); });
    }

    virtual caf::expected<host_link_actor> spawn(const linked_rank&, limits) = 0;
    /// The name of a fake rank `id`: connections to it succeed, but nobody ever speaks.
    virtual std::string frozen(incarnation id) = 0;

    /// Returns when the stop was answered and the link has ended.
    void stop(linked_rank& rank) {
        caf::scoped_actor self{system()};
        bool answered = false;
        self->request(rank.links, patience, stop_io{})
            .receive([&] { answered = true; },
                     [](const caf::error& error) { FAIL(describe(error)); });
        CHECK(answered);
        self->wait_for(rank.links);
        rank.links = nullptr;
    }

protected:
    /// Also runs when a test has failed half-way.
    void stop_all() {
        for (const auto& links : spawned_)
            caf::anon_send(links, stop_io{});
        spawned_.clear();
        system().await_all_actors_done();
    }

private:
    real_system real_;
    std::vector<host_link_actor> spawned_;
};

class socket_world : public link_world {
public:
    socket_world() {
        auto loop = io_loop::make(system());
        REQUIRE_MESSAGE(loop, describe(loop.error()));
        loop_ = std::move(*loop);
    }
    ~socket_world() override {
        stop_all();
        loop_->stop();
    }

    caf::expected<host_link_actor> spawn(const linked_rank& rank, limits bounds) override {
        return spawn_host_link(
            system(), {loop_.get(), rank.id, rank.name, rank.token, bounds, counters, folder});
    }
    std::string frozen(incarnation id) override {
        auto name = "kvferry-test-frozen-" + std::to_string(::getpid()) + "-" + to_string(id);
        auto listener = unix_socket::listen(name);
        REQUIRE(listener);
        frozen_.push_back(std::move(*listener));
        return name;
    }

    io_loop& loop() { return *loop_; }

    /// Where ranks also offer their sockets as files.
    std::string folder;

    std::shared_ptr<host_link_counters> counters = std::make_shared<host_link_counters>();

private:
    std::unique_ptr<io_loop> loop_;
    std::vector<unix_socket> frozen_;
};

class loopback_world : public link_world {
public:
    ~loopback_world() override { stop_all(); }

    caf::expected<host_link_actor> spawn(const linked_rank& rank, limits bounds) override {
        return spawn_loopback_host_link(system(), {},
                                        {network, rank.id, rank.name, rank.token, bounds});
    }
    std::string frozen(incarnation id) override {
        std::ignore = network->join(id, "frozen", link_token{});
        network->freeze(id);
        return "frozen";
    }

    std::shared_ptr<loopback_host_network> network = std::make_shared<loopback_host_network>();
};

} // namespace kvferry::testing
