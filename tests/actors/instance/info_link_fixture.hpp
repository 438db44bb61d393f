// SPDX-License-Identifier: Apache-2.0
// Info links for tests: one over a network and the loopback twin, and questions to them from
// outside.
#pragma once

#include "actors/host/configure.hpp"
#include "actors/instance/info_link.hpp"
#include "actors/instance/loopback_info_link.hpp"
#include "actors/instance/rank_info_server.hpp"
#include "tests/support/sample_ranks.hpp"
#include "tests/support/virtual_system.hpp"

#include <caf/io/middleman.hpp>
#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <future>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace kvferry::testing {

using namespace std::chrono_literals;

/// Longer than any step takes. A test that waits this long has failed.
inline constexpr std::chrono::seconds patience{20};

template <class T>
using stored = std::conditional_t<std::is_void_v<T>, caf::unit_t, T>;

template <class T>
using answer = std::future<caf::expected<stored<T>>>;

template <class T, class Handle, class Message>
answer<T> ask_in(caf::actor_system& system, const Handle& to, Message message) {
    auto promise = std::make_shared<std::promise<caf::expected<stored<T>>>>();
    auto result = promise->get_future();
    auto run = [to, promise, message = std::move(message)](caf::event_based_actor* self) {
        auto failed = [promise](const caf::error& error) { promise->set_value(error); };
        if constexpr (std::is_void_v<T>)
            self->request(to, caf::infinite, message)
                .then([promise] { promise->set_value(caf::unit); }, failed);
        else
            self->request(to, caf::infinite, message)
                .then([promise](T& value) { promise->set_value(std::move(value)); }, failed);
    };
    system.spawn(std::move(run));
    return result;
}

/// The twin: virtual time, and messages arrive at once.
struct loopback_twin {
    static constexpr auto name = "loopback";
    virtual_system vs;
    limits bounds;
    info_link_actor link = vs.track(spawn_loopback_info_link(vs.system(), {}, {bounds, {}}));

    caf::actor_system& system() { return vs.system(); }
    template <class Handle>
    Handle keep(Handle actor) {
        return vs.track(std::move(actor));
    }
    void settle() { vs.run(); }
    void pass(std::chrono::milliseconds time) { vs.advance(time); }
    std::string silent_endpoint() { return "nobody.example:1"; }
    template <class T>
    caf::expected<T> get(std::future<caf::expected<T>>& future) {
        vs.run();
        REQUIRE(future.wait_for(0s) == std::future_status::ready);
        return future.get();
    }
};

/// A TCP port of this machine.
struct socket_at_port {
    unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::uint16_t port = 0;

    socket_at_port() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
        REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
        port = ntohs(address.sin_port);
    }

    std::string endpoint() const { return "127.0.0.1:" + std::to_string(port); }
};

/// The real link: CAF's middleman, real sockets, real time.
struct network_twin {
    static constexpr auto name = "network";
    struct configuration : caf::actor_system_config {
        configuration() { configure(*this); }
    };
    configuration config;
    caf::actor_system sys{config};
    limits bounds;
    std::vector<caf::strong_actor_ptr> kept;
    /// Bound but not listening: every connect is refused.
    socket_at_port nobody;
    info_link_actor link = keep(spawn_info_link(sys, {}, {bounds}));

    ~network_twin() {
        for (auto& actor : kept)
            caf::anon_send_exit(actor, caf::exit_reason::kill);
    }

    caf::actor_system& system() { return sys; }
    template <class Handle>
    Handle keep(Handle actor) {
        kept.push_back(caf::actor_cast<caf::strong_actor_ptr>(actor));
        return actor;
    }
    void settle() {}
    void pass(std::chrono::milliseconds) {} // real time passes by itself
    std::string silent_endpoint() { return nobody.endpoint(); }
    template <class T>
    caf::expected<T> get(std::future<caf::expected<T>>& future) {
        REQUIRE(future.wait_for(patience) == std::future_status::ready);
        return future.get();
    }
};

/// What every test needs, on either twin.
template <class Twin>
struct scene : Twin {
    rank_info_server_actor server(std::string instance, std::uint32_t world_size,
                                  std::chrono::milliseconds info_deadline = 5s,
                                  std::uint16_t protocol = protocol_version) {
        limits bounds;
        bounds.info_deadline = info_deadline;
        bounds.protocol = protocol;
        return this->keep(
            spawn_rank_info_server(this->system(), {}, {std::move(instance), world_size, bounds}));
    }

    std::string publish(const rank_info_server_actor& server) {
        publish_info_server question;
        question.server = server;
        auto asked = ask_in<info_server_published>(this->system(), this->link, question);
        auto result = this->get(asked);
        REQUIRE_MESSAGE(result, describe(result.error()));
        return result->endpoint;
    }

    auto fetch(std::string endpoint, std::chrono::milliseconds deadline = 10s) {
        return ask_in<instance_info>(this->system(), this->link,
                                     fetch_instance_info{std::move(endpoint), deadline});
    }

    auto enter(std::string endpoint, rank_info info) {
        return ask_in<void>(this->system(), this->link,
                            register_with_instance{std::move(endpoint), std::move(info), 10s});
    }

    void enter_all(const std::string& endpoint, const std::string& instance, std::uint32_t tp) {
        for (std::uint32_t rank = 0; rank < tp; ++rank) {
            auto asked = enter(endpoint, sample_rank(instance, rank, tp));
            auto done = this->get(asked);
            REQUIRE_MESSAGE(done, describe(done.error()));
        }
    }

    template <class T>
    errc code(std::future<caf::expected<T>>& future) {
        auto result = this->get(future);
        return result ? errc::none : code_of(result.error());
    }
};

template <class T>
bool ready(const std::future<T>& future) {
    return future.wait_for(0s) == std::future_status::ready;
}

} // namespace kvferry::testing
