// SPDX-License-Identifier: Apache-2.0
// Very many ranks in one process: one whose cost is measured, on a thread of its own, and its
// peers, all on another thread. They meet in a loopback world.
#pragma once

#include "actors/host/loopback_world.hpp"
#include "actors/shared/session_openers.hpp"
#include "messages/errors.hpp"
#include "messages/interfaces.hpp"
#include "messages/limits.hpp"
#include "messages/local/worker.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/loop/resident.hpp"

#include <caf/fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace kvferry::bench {

/// An instance of one rank, without a facade.
struct scale_rank {
    transfer_worker_actor worker;
    fabric_actor fabric;
    rank_info_server_actor server;
    /// Whom hosts' sessions ask.
    session_openers_ptr openers = std::make_shared<session_openers>();
    rank_info info;
    std::string endpoint;
    std::vector<std::byte> memory;
};

class scale_world {
public:
    /// Starts the rank and all its peers.
    static caf::expected<std::unique_ptr<scale_world>> make(caf::actor_system&,
                                                            std::uint32_t peers);
    ~scale_world();

    scale_rank& own() { return own_; }
    placement own_home() { return placement{own_loop_.get()}; }
    std::vector<scale_rank>& peers() { return peers_; }
    /// The endpoint of an instance that never becomes complete.
    const std::string& silent_endpoint() const { return silent_endpoint_; }
    const limits& bounds() const { return bounds_; }

    /// Returns once the own rank has no more to do than it had before the call, and what it has.
    caf::expected<worker_statistics> settle();

    /// Processor time that the own rank's thread has used.
    std::chrono::nanoseconds used() const { return own_loop_->statistics().cpu_time; }

    /// On the own rank's thread only. Calls back, there, behind everything that follows from what
    /// is ready.
    void behind_all(std::function<void()> call) { behind_rounds(settling_rounds, std::move(call)); }

    /// Ends a peer as if its host were lost: its fabric is gone without a word.
    void lose(scale_rank& peer);

    /// Ends all ranks, the own one first. Fails when memory could not be proven quiet.
    caf::error stop();

private:
    /// Round trips through the own rank's thread after which everything that followed from one
    /// event has been handled: more than any chain of messages is long.
    static constexpr int settling_rounds = 20;

    explicit scale_world(caf::actor_system&);
    void behind_rounds(int rounds, std::function<void()> call);
    caf::error start(scale_rank&, io_loop&, const std::string& name);
    caf::expected<std::string> publish(const rank_info_server_actor&);

    caf::actor_system* system_;
    limits bounds_;
    std::unique_ptr<loopback_world> meeting_;
    std::unique_ptr<io_loop> own_loop_;
    std::unique_ptr<io_loop> peer_loop_;
    scale_rank own_;
    std::vector<scale_rank> peers_;
    rank_info_server_actor silent_;
    std::string silent_endpoint_;
    std::uint64_t started_ = 0;
};

} // namespace kvferry::bench
