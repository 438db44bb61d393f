// SPDX-License-Identifier: Apache-2.0
// Questions to rank-info servers and their answers, from this process or for another one.
#pragma once

#include "messages/interfaces.hpp"
#include "messages/values/info_endpoint.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/codec.hpp"

#include <caf/actor.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace kvferry {

/// A codec frame from or for another process. The bytes travel, the message does not; answers to
/// many askers share theirs.
struct info_frame {
    info_frame() = default;
    info_frame(byte_buffer frame) : shared(std::make_shared<const byte_buffer>(std::move(frame))) {}
    explicit info_frame(std::shared_ptr<const byte_buffer> frame) : shared(std::move(frame)) {}

    byte_view bytes() const { return shared ? byte_view{*shared} : byte_view{}; }

    std::shared_ptr<const byte_buffer> shared;
};

/// Ask the rank-info server at `endpoint` ("host:port") for all ranks of its instance.
struct fetch_instance_info {
    std::string endpoint;
    std::chrono::milliseconds deadline;
};

/// Introduce `info` to its own instance's server at `endpoint`.
struct register_with_instance {
    std::string endpoint;
    rank_info info;
    std::chrono::milliseconds deadline;
    /// register_rank_info::answers_at.
    std::vector<std::string> answers_at = {};
};

/// All ranks of an instance, as its host has carried them here; no ranks: forget it. `endpoint`
/// stands for the instance where otherwise that of its server does.
struct add_instance {
    std::string endpoint;
    std::vector<rank_info> ranks;
};

struct list_ranks {};

/// All ranks of an instance, in rank order.
struct ranks_listed {
    std::vector<rank_place> places;
};

/// The worker for which a teller speaks from now on.
struct adopt_rank {
    transfer_worker_actor worker;
    kvferry::incarnation incarnation;
};

/// Make a server, a teller, or both, reachable under `bind_address`; port 0 picks a free one.
struct publish_info_server {
    rank_info_server_actor server;
    std::string bind_address = "127.0.0.1";
    std::uint16_t port = 0;
    rank_teller_actor teller = {};
};

struct info_server_published {
    std::string endpoint;
    /// Listens there; ends after the server has. Null in a loopback world.
    caf::actor door;
};

/// A question and how long anybody wants its answer.
struct call_info_server {
    info_endpoint endpoint;
    byte_buffer question;
    time_point until;
};

} // namespace kvferry
