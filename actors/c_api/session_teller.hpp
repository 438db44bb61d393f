// SPDX-License-Identifier: Apache-2.0
// What one session tells its host: called by the rank's callbacks, read by the calls of the ABI.
#pragma once

#include "actors/c_api/event_queue.hpp"
#include "messages/local/outcomes.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace kvferry::c_api {

/// Thread-safe. Holds the places of its events from its birth on.
class session_teller {
public:
    /// The session as its host named it.
    struct identity {
        std::uint64_t handle = 0;
        std::uint64_t user = 0;
        std::uint64_t rid = 0;
        bool tells_ready = false;
        bool tells_pieces = false;
        bool tells_layers = false;
    };

    /// limit_exceeded: no places are left.
    static caf::expected<std::shared_ptr<session_teller>> make(identity,
                                                               std::shared_ptr<event_queue>);

    session_teller(identity, std::shared_ptr<event_queue>);
    session_teller(const session_teller&) = delete;
    session_teller& operator=(const session_teller&) = delete;
    /// Frees the places of events that never came.
    ~session_teller();

    void on_ready(const session_ready&);
    void on_layers(const layers_arrived&);
    void on_piece(const piece_finished&);
    void on_outcome(const session_finished&);
    void on_released();

    /// Before a call that begins a piece: `gone` after the outcome, else limit_exceeded without a
    /// place for its event.
    caf::error expect_piece();

    /// Empty before it is ready.
    std::vector<receiver_wants> wants() const;

    /// Null while there is none; lives as long as the teller.
    const session_finished* outcome() const;
    bool released() const;

    enum class what { outcome, released };
    /// deadline_exceeded when it has not come in this time (none: for ever).
    caf::error wait(what, std::optional<std::chrono::milliseconds> patience);

    /// The worker has stopped without proof: what has not come never will.
    void give_up(const caf::error& why);
    caf::error given_up() const;

    /// The host has freed the session.
    void drop();

    const identity& who() const { return who_; }

private:
    kvf_event event_of(std::uint32_t kind) const;

    const identity who_;
    const std::shared_ptr<event_queue> queue_;
    const std::chrono::steady_clock::time_point opened_ = std::chrono::steady_clock::now();
    const std::shared_ptr<std::atomic<bool>> dropped_ = std::make_shared<std::atomic<bool>>(false);
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool ready_due_ = false;
    std::size_t pieces_due_ = 0;
    /// Null when layers are not told, or not any more.
    std::shared_ptr<repeated_event> layers_;
    std::vector<receiver_wants> wants_;
    std::optional<session_finished> outcome_;
    bool released_ = false;
    caf::error given_up_;
};

/// Bytes that all peers contributed.
std::uint64_t bytes_of(const session_finished&);
std::uint64_t fragments_of(const session_finished&);

} // namespace kvferry::c_api
