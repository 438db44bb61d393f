// SPDX-License-Identifier: Apache-2.0
// The fabric of a simulated rank: the product's own, over the simulated network as its wire.
//
// As over TCP, the target itself writes arriving bytes when it runs. It may do so after their
// writer has given up or died, until it has fenced that writer.
#pragma once

#include "tests/harness/network/sim_network.hpp"
#include "transport/fabric/fabric_io.hpp"
#include "transport/loop/resident.hpp"

#include <functional>
#include <memory>

namespace kvferry::harness {

class sim_io_state : public fabric_state {
public:
    static inline constexpr const char* name = "sim_io";

    struct dependencies {
        sim_network* network = nullptr;
        doorbell* bell = nullptr;
        incarnation self;
        /// Receives frames of peers without an open endpoint.
        frame_sink_actor default_sink;
        limits bounds;
        /// How many registrations still fail.
        std::shared_ptr<int> failing_registrations;
        /// Called with every address that a put reads, at the time of the read.
        std::function<void(std::uint64_t)> on_read;
        std::uint64_t seed = 0;
    };

    sim_io_state(pointer self, dependencies);

    wired_fabric_actor::behavior_type make_behavior() { return behavior_of(this); }

    /// The thread may be busy with other things before it shuts an attempt out.
    caf::result<void> on_forbid_writes(const forbid_writes&);

private:
    const sim_network* network_;
    random_source random_;
};

/// The fabric address of a simulated process.
byte_buffer sim_address(incarnation);

} // namespace kvferry::harness
