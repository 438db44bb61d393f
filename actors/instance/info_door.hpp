// SPDX-License-Identifier: Apache-2.0
// The listening socket of a published rank-info server, in the hands of CAF's network layer.
//
// CAF's own doorman calls accept() again at once, for ever, while the process has no descriptor
// left: a core that spins. This one leaves the connection in its queue and says why.
#pragma once

#include "messages/values/info_endpoint.hpp"

#include <caf/error.hpp>
#include <caf/expected.hpp>
#include <caf/fwd.hpp>
#include <caf/io/doorman.hpp>
#include <caf/io/network/acceptor_impl.hpp>
#include <caf/io/network/default_multiplexer.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace kvferry {

/// Used on the thread of the network layer only.
class info_door final : public caf::io::doorman {
public:
    /// Listens on that address and port, 0 for any, also when a former process's connections linger
    /// there. CAF's error does not say why it cannot.
    static caf::expected<caf::intrusive_ptr<info_door>> open(caf::actor_system&,
                                                             const info_endpoint&);

    info_door(caf::io::network::default_multiplexer&, caf::io::network::native_socket);

    /// Called when a connection cannot be let in. The door is closed until it is triggered.
    void when_stuck(std::function<void(const caf::error&)> call) { stuck_ = std::move(call); }

    bool new_connection() override;
    void graceful_shutdown() override;
    void launch() override;
    std::string addr() const override;
    std::uint16_t port() const override;
    void add_to_loop() override;
    void remove_from_loop() override;

private:
    using socket = caf::io::network::native_socket;
    /// What CAF's acceptor asks for a connection.
    struct policy {
        info_door* door;
        bool try_accept(socket& accepted, socket) const { return door->try_accept(accepted); }
    };

    bool try_accept(socket& accepted);

    std::function<void(const caf::error&)> stuck_;
    caf::io::network::acceptor_impl<policy> acceptor_;
};

} // namespace kvferry
