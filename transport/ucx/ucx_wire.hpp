// SPDX-License-Identifier: Apache-2.0
// How the layers above get UCX as a wire of the fabric: this header includes no UCX.
#pragma once

#include "transport/fabric/wire.hpp"
#include "transport/loop/io_loop.hpp"

#include <caf/expected.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace kvferry {

/// How puts are carried out.
enum class put_method : std::uint8_t {
    /// By RMA where UCX has chosen a lane for it, else by messages.
    automatic,
    /// By messages that the target copies into place: every key and bound is checked there, and the
    /// death of either side costs the other nothing.
    messages,
    /// By RMA always. Where there is no RMA hardware UCX emulates it: no key is checked, and a
    /// writer that dies in the middle may take its target along (measured: transport/MEASURED.md).
    /// For tests.
    rma,
};

struct ucx_wire_options {
    put_method puts = put_method::automatic;
    /// What UCX_NET_DEVICES would say; empty: all. The variable itself wins.
    std::string net_devices = {};
    /// Its own TCP transport, too. Anybody who reaches the port of that may write into this
    /// process: UCX's emulated puts ask for no key.
    bool tcp = true;
};

/// To be called on the loop's thread, where the wire then lives. An error says what UCX or the
/// system refused; then nothing is left.
caf::expected<std::unique_ptr<wire>> make_ucx_wire(io_loop&, ucx_wire_options = {});

} // namespace kvferry
