// SPDX-License-Identifier: Apache-2.0
// Decisions of host_link_io: who may connect, which connection serves which request, what is told.
#include "messages/local/host_link.hpp"

#include "messages/local/copies.hpp"
#include "messages/trace/handle.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/host_link/host_link.hpp"
#include "transport/host_link/host_link_state.hpp"
#include "transport/host_link/process_watch.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/link_errors.hpp"

#include <algorithm>
#include <sys/epoll.h>
#include <tuple>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

/// Pause before retrying to connect to a listener whose queue is full, or to accept after running
/// out of descriptors.
constexpr std::chrono::milliseconds retry_after{20};

caf::error late(std::string_view what, incarnation peer) {
    return make_error(errc::deadline_exceeded, "{}: the deadline has passed", told(what, peer));
}

/// Asks the kernel who the peer is, and opens a descriptor that shows its end.
caf::error identify(host_link_connection& connection) {
    auto peer = connection.socket().peer();
    if (!peer)
        return std::move(peer.error());
    if (peer->uid != ::geteuid())
        return make_error(errc::foreign_peer, "process {} belongs to user {}, this rank to {}",
                          peer->pid, peer->uid, ::geteuid());
    auto process = watch_process(connection.socket());
    if (!process)
        return std::move(process.error());
    connection.process = std::move(*process);
    return {};
}

} // namespace

std::string host_link_name(incarnation x) {
    constexpr char digits[] = "0123456789abcdef";
    std::string result = "kvferry-";
    for (int shift = 60; shift >= 0; shift -= 4)
        result += digits[(x.value >> shift) & 15];
    return result;
}

caf::expected<host_link_actor> spawn_host_link(caf::actor_system& system,
                                               host_link_dependencies with) {
    auto listener = unix_socket::listen(with.socket_name);
    if (!listener)
        return std::move(listener.error());
    std::shared_ptr<socket_file> file;
    if (!with.folder.empty()) {
        auto made = socket_file::listen(with.folder, with.socket_name);
        if (!made)
            return std::move(made.error());
        file = std::make_shared<socket_file>(std::move(*made));
    }
    const placement where{with.loop};
    return spawn_at<host_link_actor, host_link_state>(
        system, where, std::move(with), std::make_shared<unix_socket>(std::move(*listener)),
        std::move(file));
}

host_link_state::host_link_state(host_link_actor::pointer self, dependencies with,
                                 std::shared_ptr<unix_socket> listener,
                                 std::shared_ptr<socket_file> file)
    : self_(self), with_(std::move(with)) {
    self_->set_down_handler([this](const caf::down_msg& down) { on_owner_down(down.source); });
    doors_.push_back({std::move(listener)});
    if (file) // the file goes with its socket
        doors_.push_back({std::shared_ptr<unix_socket>{file, &file->socket()}});
}

host_link_actor::behavior_type host_link_state::make_behavior() {
    for (auto& door : doors_)
        listen(door);
    return {
        handle(this, &host_link_state::on_share),  handle(this, &host_link_state::on_dial),
        handle(this, &host_link_state::on_expect), handle(this, &host_link_state::on_close),
        handle(this, &host_link_state::on_stop),
    };
}

// -- messages -------------------------------------------------------------------------------

void host_link_state::on_share(const share_region& message) {
    std::erase_if(shared_, [&](const auto& x) { return x.region == message.region; });
    shared_.push_back(message);
}

void host_link_state::on_dial(const host_link_dial& message) {
    auto* link = begin(message.peer, phase::dialling, message.owner, message.deadline);
    if (!link)
        return;
    link->name = message.name;
    link->token = message.token;
    link->protocol = message.protocol;
    if (!adopt(message.peer))
        connect(message.peer);
}

void host_link_state::on_expect(const host_link_expect& message) {
    if (begin(message.peer, phase::expected, message.owner, message.deadline))
        adopt(message.peer);
}

void host_link_state::on_close(const host_link_close& message) {
    const auto found = links_.find(message.peer);
    if (found == links_.end())
        return;
    if (message.owner && found->second.owner != message.owner)
        ++with_.counters->ignored; // it was taken over by another
    else
        end(message.peer,
            make_error(errc::cancelled, told("this rank closed the link to", message.peer)));
}

void host_link_state::on_stop(const stop_io&) {
    doors_.clear();
    auto links = std::move(links_);
    for (auto& [peer, link] : links) {
        link.deadline.dispose();
        link.again.dispose();
        if (link.connection)
            link.connection->close();
        if (link.state != phase::ended)
            tell(self_, link.owner,
                 host_link_down{peer, make_error(errc::stopped, "this rank stops")});
    }
    for (auto& waiting : strangers_) {
        waiting.deadline.dispose();
        waiting.connection->close();
    }
    strangers_.clear();
    self_->quit();
}

// -- sockets and processes ------------------------------------------------------------------

void host_link_state::listen(door& at) {
    auto watch = with_.loop->watch(at.listener->fd(), EPOLLIN,
                                   [this, &at](std::uint32_t) { on_connection(at); });
    if (watch)
        at.watch = std::move(*watch);
    else
        logger().error("host_link_io: nobody can connect: {}", describe(watch.error()));
}

void host_link_state::on_connection(door& at) {
    auto socket = at.listener->accept();
    if (!socket) {
        if (!std::exchange(at.told, true))
            logger().error("host_link_io: cannot accept: {}", describe(socket.error()));
        at.watch.reset(); // otherwise it stays readable and spins the loop
        self_->run_delayed(retry_after, [this, &at] { listen(at); });
        return;
    }
    if (!*socket)
        return;
    at.told = at.told && check_descriptors(descriptors_reserve);
    auto connection = std::make_shared<host_link_connection>(*with_.loop, std::move(**socket),
                                                             false, with_.bounds);
    if (strangers_.size() >= with_.bounds.unexpected_host_links_max)
        return refuse(*connection,
                      make_error(errc::limit_exceeded,
                                 "unexpected_host_links_max = {} connections wait already",
                                 with_.bounds.unexpected_host_links_max));
    auto error = identify(*connection);
    if (!error)
        error = start(*connection);
    if (error)
        return refuse(*connection, error);
    auto deadline =
        self_->run_delayed(with_.bounds.dial_deadline, [this, weak = std::weak_ptr{connection}] {
            if (auto late_one = weak.lock())
                refuse(*late_one, make_error(errc::deadline_exceeded,
                                             late_one->hello.complete()
                                                 ? "nobody expected the connection in time"
                                                 : "the hello did not come in time"));
        });
    strangers_.push_back({std::move(connection), std::move(deadline)});
}

void host_link_state::on_packet(host_link_connection& connection, host_link_packet packet,
                                std::vector<unique_fd> memfds) {
    if (auto* refusal = std::get_if<hello_refusal>(&packet))
        return drop(connection, add_context(from_wire(refusal->reason), "refused by the peer"));
    auto& part = std::get<hello_packet>(packet);
    if (connection.hello.complete()) {
        ++with_.counters->ignored;
        return;
    }
    auto error = check(connection, part);
    if (!error)
        error = connection.hello.add(std::move(part), std::move(memfds));
    if (error)
        return refuse(connection, error);
    if (!connection.hello.complete())
        return;
    connection.dialled() ? on_dialled_hello(connection) : on_accepted_hello(connection);
}

void host_link_state::on_dialled_hello(host_link_connection& connection) {
    come_up(peer_of(connection), connection.shared_from_this());
}

/// When two ranks dial each other, the connection of the lower incarnation serves both.
void host_link_state::on_accepted_hello(host_link_connection& connection) {
    const auto peer = peer_of(connection);
    if (auto error = send_hello(connection, peer, link_token{}, connection.hello.head().version))
        return refuse(connection, error);
    auto found = links_.find(peer);
    if (found == links_.end())
        return;
    auto& link = found->second;
    if (link.state == phase::expected || (link.state == phase::dialling && peer < with_.self)) {
        come_up(peer, connection.shared_from_this());
    } else if (link.state == phase::up && link.connection->dialled() && peer < with_.self) {
        // Its process and its regions are those that the link knows already.
        link.connection->close();
        link.connection = connection.shared_from_this();
        forget_stranger(connection);
    }
}

void host_link_state::on_process_end(incarnation peer) {
    auto found = links_.find(peer);
    if (found == links_.end())
        return;
    // The connection may not show the end: a leaked copy of the peer's socket can keep it open.
    if (found->second.state != phase::ended)
        end(peer, make_error(errc::peer_gone, told("the process ended of", peer)));
    found = links_.find(peer);
    if (found == links_.end())
        return;
    const auto witnesses = std::move(found->second.witnesses);
    links_.erase(found);
    for (const auto& witness : witnesses)
        tell(self_, caf::actor_cast<host_link_owner_actor>(witness.lock()), process_gone{peer});
}

/// Nobody waits for the end of that process any more: its descriptor goes.
void host_link_state::on_owner_down(const caf::actor_addr& owner) {
    for (auto x = links_.begin(); x != links_.end();) {
        auto& link = x->second;
        std::erase_if(link.witnesses, [&owner](const caf::weak_actor_ptr& witness) {
            const auto alive = witness.lock();
            return !alive || alive == owner;
        });
        x = link.state == phase::ended && link.witnesses.empty() ? links_.erase(x) : std::next(x);
    }
}

// -- steps ----------------------------------------------------------------------------------

/// Uses the newest connection that the peer has already made, if there is one.
bool host_link_state::adopt(incarnation peer) {
    for (auto waiting = strangers_.rbegin(); waiting != strangers_.rend(); ++waiting) {
        if (!waiting->connection->hello.complete() || peer_of(*waiting->connection) != peer)
            continue;
        come_up(peer, connection_ptr{waiting->connection});
        return true;
    }
    return false;
}

void host_link_state::forget_stranger(const host_link_connection& connection) {
    std::erase_if(strangers_, [&](stranger& x) {
        const bool same = x.connection.get() == &connection;
        if (same)
            x.deadline.dispose();
        return same;
    });
}

host_link_state::link* host_link_state::begin(incarnation peer, phase state,
                                              const host_link_owner_actor& owner,
                                              std::chrono::milliseconds deadline) {
    if (peer == with_.self) {
        tell(self_, owner,
             host_link_down{peer,
                            make_error(errc::invalid_argument, "a rank has no link to itself")});
        return nullptr;
    }
    auto& link = links_[peer];
    if (link.state != phase::ended && link.owner == owner) { // it hears of the link that is there
        ++with_.counters->ignored;
        return nullptr;
    }
    if (link.state == phase::up) {
        take_over(peer, link, owner);
        return nullptr;
    }
    if (link.state != phase::ended) // nothing has come of it yet
        end(peer, taken_over(peer));
    return begin_fresh(peer, state, owner, deadline);
}

/// The peer's process is the same, so what is mapped and watched serves its new link as well.
void host_link_state::take_over(incarnation peer, link& x, const host_link_owner_actor& owner) {
    x.witnesses.push_back(caf::actor_cast<caf::weak_actor_ptr>(std::exchange(x.owner, owner)));
    tell_up(peer, x);
}

host_link_state::link* host_link_state::begin_fresh(incarnation peer, phase state,
                                                    const host_link_owner_actor& owner,
                                                    std::chrono::milliseconds deadline) {
    auto& link = links_[peer];
    link.state = state;
    link.owner = owner;
    link.deadline = self_->run_delayed(deadline, [this, peer, state] {
        auto found = links_.find(peer);
        if (found != links_.end() && found->second.state == state)
            end(peer, late(state == phase::dialling ? "dial of" : "waiting for", peer));
    });
    return &link;
}

void host_link_state::connect(incarnation peer) {
    auto found = links_.find(peer);
    if (found == links_.end() || found->second.state != phase::dialling || found->second.connection)
        return;
    auto& link = found->second;
    auto socket = reach(link.name);
    if (!socket)
        return end(peer, socket.error());
    if (!*socket) {
        link.again = self_->run_delayed(retry_after, [this, peer] { connect(peer); });
        return;
    }
    link.connection = std::make_shared<host_link_connection>(*with_.loop, std::move(**socket), true,
                                                             with_.bounds);
    auto error = identify(*link.connection);
    if (!error)
        error = start(*link.connection);
    if (!error)
        error = send_hello(*link.connection, peer, link.token, link.protocol);
    if (error)
        end(peer, error);
}

/// By its abstract name, and where that is not seen (another network namespace) by its file.
caf::expected<std::optional<unix_socket>> host_link_state::reach(const std::string& name) const {
    auto socket = unix_socket::connect(name);
    if (socket || with_.folder.empty() || code_of(socket.error()) != errc::dial_failed)
        return socket;
    auto by_file = unix_socket::connect(socket_file::path_in(with_.folder, name));
    if (by_file)
        return by_file;
    return add_context(by_file.error(), text_of(socket.error()));
}

caf::error host_link_state::start(host_link_connection& connection) {
    return connection.start({[this](host_link_connection& from, host_link_packet packet,
                                    std::vector<unique_fd> memfds) {
                                 on_packet(from, std::move(packet), std::move(memfds));
                             },
                             [this](host_link_connection& from, const caf::error& error) {
                                 // A bad packet is refused with a reason. A closed connection needs
                                 // no answer.
                                 code_of(error) == errc::link_lost ? drop(from, error)
                                                                   : refuse(from, error);
                             }});
}

caf::error host_link_state::send_hello(host_link_connection& connection, incarnation peer,
                                       link_token token, std::uint16_t version) {
    std::vector<hello_region> regions;
    for (const auto& region : shared_)
        regions.push_back({region.region, region.bytes});
    std::size_t next = 0;
    for (auto& part : split_hello(with_.self, peer, token, regions, version)) {
        std::vector<int> fds;
        for (std::size_t count = part.regions.size(); count > 0; --count)
            fds.push_back(shared_[next++].memfd);
        if (auto error = connection.send(encode(host_link_packet{std::move(part)}), std::move(fds)))
            return error;
    }
    return {};
}

/// Checks a hello: addressed to this incarnation, from the expected peer, with the right token.
caf::error host_link_state::check(const host_link_connection& connection,
                                  const hello_packet& hello) const {
    if (hello.receiver != with_.self)
        return make_error(errc::stale_incarnation, "a hello for incarnation {}, this rank is {}",
                          hello.receiver, with_.self);
    if (!connection.dialled())
        return hello.token == with_.token
                   ? caf::error{}
                   : make_error(errc::foreign_peer,
                                told("the link token is wrong from", hello.sender));
    const auto peer = peer_of(connection);
    return hello.sender == peer ? caf::error{}
                                : make_error(errc::stale_incarnation, "{} but reached {}",
                                             told("dialled", peer), hello.sender);
}

/// The peer of a connection: the one it dialled, or the sender of its hello.
incarnation host_link_state::peer_of(const host_link_connection& connection) const {
    for (const auto& [peer, link] : links_)
        if (link.connection.get() == &connection)
            return peer;
    return connection.hello.head().sender;
}

void host_link_state::come_up(incarnation peer, const connection_ptr& connection) {
    auto& link = links_[peer];
    forget_stranger(*connection);
    if (link.connection && link.connection != connection)
        link.connection->close();
    link.connection = connection;
    auto watch = with_.loop->watch(connection->process.get(), EPOLLIN,
                                   [this, peer](std::uint32_t) { on_process_end(peer); });
    if (!watch)
        return refuse(*connection, watch.error());
    link.deadline.dispose();
    link.again.dispose();
    link.process_watch = std::move(*watch);
    link.process = std::move(connection->process);
    link.state = phase::up;
    link.memory = take_in(std::exchange(connection->hello.regions(), {}));
    tell_up(peer, link);
}

void host_link_state::tell_up(incarnation peer, link& x) {
    const auto owner = caf::actor_cast<caf::strong_actor_ptr>(x.owner);
    const auto former = std::exchange(x.witnesses, {});
    for (const auto& witness : former)
        if (const auto alive = witness.lock(); alive && alive != owner)
            tell(self_, caf::actor_cast<host_link_owner_actor>(alive),
                 host_link_down{peer, taken_over(peer)});
    const auto& memory = x.memory;
    tell(self_, x.owner,
         host_link_up{peer, memory.mapped, true, !former.empty(), memory.obstacles, memory.chunks});
}

/// Closes a connection after telling the peer why.
void host_link_state::refuse(host_link_connection& connection, const caf::error& reason) {
    ++with_.counters->refused;
    logger().warn("host_link_io: a connection is closed: {}", describe(reason));
    // Best effort: if the refusal cannot be sent, the peer only sees the connection end.
    const auto version = connection.hello.head().version;
    std::ignore = connection.send(encode(host_link_packet{refusal_because(reason, version)}), {});
    drop(connection, reason);
}

/// Closes a connection, and ends its link if it has one.
void host_link_state::drop(host_link_connection& connection, const caf::error& reason) {
    auto alive = connection.weak_from_this().lock();
    connection.close();
    for (const auto& [peer, link] : links_)
        if (link.connection.get() == &connection)
            return end(incarnation{peer}, reason);
    forget_stranger(connection);
}

/// The only way in which dials, expectations and links end.
void host_link_state::end(incarnation peer, const caf::error& reason) {
    auto& link = links_.at(peer);
    if (link.state == phase::ended)
        return;
    const bool was_up = link.state == phase::up;
    link.state = phase::ended;
    link.memory = {};
    link.deadline.dispose();
    link.again.dispose();
    if (link.connection) {
        link.connection->close();
        link.connection.reset();
    }
    auto owner = std::exchange(link.owner, nullptr);
    if (was_up) {
        std::erase_if(link.witnesses, [&](const caf::weak_actor_ptr& x) {
            const auto alive = x.lock();
            return !alive || alive == caf::actor_cast<caf::strong_actor_ptr>(owner);
        });
        link.witnesses.push_back(caf::actor_cast<caf::weak_actor_ptr>(owner));
        self_->monitor(owner);
    }
    if (link.witnesses.empty())
        links_.erase(peer);
    tell(self_, owner, host_link_down{peer, reason});
}

} // namespace kvferry
