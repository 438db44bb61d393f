// SPDX-License-Identifier: Apache-2.0
// The wire as a whole: who may come in, and turns for both directions.
#include "transport/shm/shm_wire.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/same_host/machine_id.hpp"
#include "transport/same_host/socket_file.hpp"
#include "transport/shm/shm_address.hpp"
#include "transport/shm/shm_connection.hpp"
#include "transport/shm/shm_visitor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sys/epoll.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

/// Pause before accepting again after the process has run out of descriptors.
constexpr std::chrono::milliseconds accept_again{20};

std::uint64_t random_number() {
    std::random_device entropy;
    return (std::uint64_t{entropy()} << 32) | entropy();
}

class shm_wire final : public wire {
public:
    shm_wire(io_loop& loop, shm_wire_options with, shm_address self, unix_socket listener,
             std::optional<socket_file> file)
        : loop_(loop), with_(std::move(with)), self_(std::move(self)) {
        doors_.emplace_back(std::make_shared<unix_socket>(std::move(listener)));
        if (file) { // the file goes with its socket
            auto kept = std::make_shared<socket_file>(std::move(*file));
            doors_.emplace_back(std::shared_ptr<unix_socket>{kept, &kept->socket()});
        }
    }
    ~shm_wire() override { leave_loop(); }

    /// Before start(), so that an error can be told.
    caf::error join_loop();

    void start(wire_user& user) override { user_ = &user; }
    byte_buffer address() const override { return pack(self_); }
    std::string transports() const override { return "shared memory"; }
    std::string_view key_label() const override { return "shared-memory access key"; }
    caf::error check_room() override { return check_descriptors(descriptors_reserve / 2); }
    caf::expected<std::unique_ptr<wire_connection>> connect(incarnation peer, byte_view address,
                                                            endpoint_id) override;
    std::vector<wire_event> take_events() override {
        return std::exchange(connections_.events, {});
    }
    void wake() override { woken_ = true; }
    void progress() override { turn(); }
    void destroy() noexcept override;

private:
    /// The wire, as its loop sees it.
    struct poller final : loop_poller {
        explicit poller(shm_wire& of) : of(of) {}
        bool progress() override { return of.turn(); }
        int event_fd() override { return -1; } // all sockets are watched
        bool arm() override { return of.sleep(); }

        shm_wire& of;
    };
    struct door {
        explicit door(std::shared_ptr<unix_socket> socket)
            : listener(std::move(socket)),
              in_child([fd = listener->fd()] { blank_descriptor(fd); }) {}

        std::shared_ptr<unix_socket> listener;
        in_forked_child in_child;
        watch_handle watch;
        /// That nobody can be let in has been logged.
        bool told = false;
    };

    bool turn();
    bool sleep();
    caf::error listen(door&);
    void on_visit(door&);
    void let_in(unix_socket);
    caf::expected<unix_socket> reach(const std::string& name) const;
    void leave_loop() noexcept;

    io_loop& loop_;
    poller poller_{*this};
    shm_wire_options with_;
    shm_address self_;
    std::list<door> doors_;
    wire_user* user_ = nullptr;
    shm_connection::siblings connections_;
    std::vector<std::shared_ptr<shm_visitor>> visitors_;
    bool joined_ = false;
    bool woken_ = false;
    /// The other sides of all rings have been told that this one sleeps.
    bool armed_ = false;
};

// -- visitors -----------------------------------------------------------------------------------

caf::error shm_wire::join_loop() {
    if (auto problem = loop_.add(poller_))
        return problem;
    joined_ = true;
    for (auto& each : doors_)
        if (auto problem = listen(each))
            return problem;
    return {};
}

caf::error shm_wire::listen(door& at) {
    auto watch =
        loop_.watch(at.listener->fd(), EPOLLIN, [this, &at](std::uint32_t) { on_visit(at); });
    if (!watch)
        return std::move(watch.error());
    at.watch = std::move(*watch);
    return {};
}

void shm_wire::on_visit(door& at) {
    if (!user_)
        return;
    auto socket = at.listener->accept();
    if (!socket) {
        if (!std::exchange(at.told, true))
            logger().error("shm: cannot accept: {}", describe(socket.error()));
        at.watch.reset(); // otherwise it stays readable and spins the loop
        user_->after(accept_again, [this, &at] {
            if (!joined_)
                return;
            if (auto problem = listen(at))
                logger().error("shm: nobody can connect: {}", describe(problem));
        });
        return;
    }
    at.told = false;
    if (*socket)
        let_in(std::move(**socket));
}

void shm_wire::let_in(unix_socket socket) {
    auto visitor = std::make_shared<shm_visitor>(loop_, std::move(socket), self_.secret,
                                                 with_.bounds.message_bytes_max);
    const auto strangers = std::count_if(visitors_.begin(), visitors_.end(),
                                         [](const auto& x) { return !x->has_ring(); });
    if (static_cast<std::size_t>(strangers) >= with_.bounds.unexpected_host_links_max)
        return visitor->refuse("unexpected_host_links_max connections wait already");
    if (auto problem = visitor->start())
        return visitor->refuse(text_of(problem));
    user_->after(with_.bounds.dial_deadline, [weak = std::weak_ptr{visitor}] {
        if (auto late = weak.lock(); late && !late->has_ring())
            late->refuse("the hello did not come in time");
    });
    visitors_.push_back(std::move(visitor));
}

// -- connections --------------------------------------------------------------------------------

caf::expected<unix_socket> shm_wire::reach(const std::string& name) const {
    auto socket = unix_socket::connect(name);
    if (!socket && !with_.folder.empty())
        socket = unix_socket::connect(socket_file::path_in(with_.folder, name));
    if (!socket)
        return std::move(socket.error());
    if (!*socket)
        return make_error(errc::dial_failed, "the queue of same-host socket {} is full: dial again",
                          name);
    auto peer = (*socket)->peer();
    if (!peer)
        return std::move(peer.error());
    if (peer->uid != ::geteuid())
        return make_error(errc::dial_failed, "same-host socket {} belongs to user {}", name,
                          peer->uid);
    return std::move(**socket);
}

caf::expected<std::unique_ptr<wire_connection>>
shm_wire::connect(incarnation peer, byte_view address, endpoint_id id) {
    auto to = parse_shm_address(address);
    if (!to)
        return std::move(to.error());
    if (to->machine.empty() || to->machine != self_.machine)
        return make_error(errc::dial_failed, "it runs on another machine");
    auto socket = reach(to->name);
    if (!socket)
        return std::move(socket.error());
    auto memory = ring_memory::make();
    if (!memory)
        return std::move(memory.error());
    const auto hello = pack(shm_hello{.secret = to->secret, .ring_bytes = ring_bytes});
    auto sent = socket->send(hello, {memory->fd()});
    if (!sent || !*sent)
        return make_error(errc::dial_failed, "same-host socket {} took no ring: {}", to->name,
                          sent ? "no room" : text_of(sent.error()));
    memory->forget_fd();
    auto result = std::make_unique<shm_connection>(loop_, connections_, id, peer,
                                                   std::move(*socket), std::move(*memory));
    if (auto problem = result->start())
        return problem;
    return std::unique_ptr<wire_connection>{std::move(result)};
}

// -- turns --------------------------------------------------------------------------------------

/// One look at every ring. True: there was something, and may be more.
bool shm_wire::turn() {
    if (!user_)
        return false;
    if (std::exchange(armed_, false))
        for (auto& each : visitors_)
            each->awake();
    bool any = std::exchange(woken_, false);
    for (auto& each : visitors_)
        any = each->read(*user_) || any;
    std::erase_if(visitors_, [](const auto& x) { return x->is_over(); });
    for (auto& [id, each] : connections_.all)
        any = each->advance() || any;
    if (any || !connections_.events.empty())
        woken_ = user_->on_progress() || woken_; // then there is more to do
    return any || woken_;
}

/// False: something has come up.
bool shm_wire::sleep() {
    armed_ = true;
    bool quiet = !woken_ && connections_.events.empty();
    for (auto& each : visitors_)
        quiet = quiet && each->sleep();
    for (auto& [id, each] : connections_.all)
        quiet = quiet && each->sleep();
    return quiet;
}

void shm_wire::leave_loop() noexcept {
    if (std::exchange(joined_, false))
        loop_.remove(poller_);
}

void shm_wire::destroy() noexcept {
    leave_loop();
    doors_.clear();
    visitors_.clear();
}

} // namespace

caf::expected<std::unique_ptr<wire>> make_shm_wire(io_loop& loop, shm_wire_options with) {
    shm_address self{.machine = with.machine.empty() ? machine_id() : with.machine,
                     .name = fmt::format("kvferry-shm-{:016x}", random_number()),
                     .secret = random_number()};
    if (self.machine.empty())
        return make_error(errc::unsupported, "this machine has no boot id: its processes cannot "
                                             "tell whether they share it");
    auto listener = unix_socket::listen(self.name);
    if (!listener)
        return std::move(listener.error());
    std::optional<socket_file> file;
    if (!with.folder.empty()) {
        auto made = socket_file::listen(with.folder, self.name);
        if (!made)
            return std::move(made.error());
        file.emplace(std::move(*made));
    }
    auto result = std::make_unique<shm_wire>(loop, std::move(with), std::move(self),
                                             std::move(*listener), std::move(file));
    if (auto problem = result->join_loop())
        return problem;
    return std::unique_ptr<wire>{std::move(result)};
}

} // namespace kvferry
