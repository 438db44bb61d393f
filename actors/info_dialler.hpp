// SPDX-License-Identifier: Apache-2.0
// One dial through CAF's network layer, on a thread of its own.
//
// CAF's middleman actor connects with a blocking call, one dial after the other: a host that drops
// packets would hold up every other dial for minutes, and the end of the actor system too. So the
// connection is made here, by a deadline, and given to CAF once it stands.
#pragma once

#include "messages/local_messages.hpp"
#include "transport/unique_fd.hpp"

#include <caf/fwd.hpp>

#include <memory>

namespace kvferry {

class info_dialler_state {
public:
    static inline constexpr const char* name = "info_dialler";

    struct dependencies {
        /// An eventfd: readable once the dial is to be given up.
        std::shared_ptr<const unique_fd> hang_up;
    };

    info_dialler_state(info_dialler_actor::pointer self, dependencies);

    /// An actor that ends before its dial has succeeded takes the connection with it.
    ~info_dialler_state();

    info_dialler_actor::behavior_type make_behavior();

private:
    caf::result<info_server_dialled> on_dial(const dial_info_server&);
    caf::expected<info_server_dialled> check(const caf::strong_actor_ptr& found,
                                             const std::set<std::string>& understands) const;

    info_dialler_actor::pointer self_;
    dependencies given_;
    /// A second descriptor of a connection whose handshake is not over; CAF owns the first one.
    unique_fd unproven_;
};

/// Detached: it may block.
info_dialler_actor spawn_info_dialler(caf::actor_system&, info_dialler_state::dependencies);

} // namespace kvferry
