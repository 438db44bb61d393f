// SPDX-License-Identifier: Apache-2.0
// The calls that an engine's executor loop makes for KV transfers, named as in TensorRT-LLM's
// transceiver and built on the sessions of one worker.
//
// These calls speak for one rank; agreement between the ranks of an instance is the engine's task.
#pragma once

#include "actors/host/host_actor.hpp"
#include "actors/host/worker.hpp"

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace kvferry {

/// A request whose transfer has ended and whose pages are the engine's again.
struct ended_request {
    rid request;
    session_state state = session_state::init;
    /// Empty after success.
    caf::error error;
    /// Generation side, when aux was required: first token, draft tokens, counts.
    aux_record aux;
    /// KV bytes of this rank.
    std::uint64_t bytes = 0;
    /// From the first call to the outcome.
    std::chrono::nanoseconds took{0};
};

struct transfer_check {
    std::vector<ended_request> completed;
    std::vector<ended_request> failed;
    std::vector<ended_request> cancelled;
};

/// One thread at a time drives it, the executor's. A call waits for a peer only where its comment
/// says so; transfers go on between the calls. A check reports a request once, when it has its
/// outcome *and* its pages are proven free; without that proof it stays in quarantined() and no
/// check reports it.
class transceiver {
public:
    /// `served_by` must outlive it.
    transceiver(caf::actor_system&, worker& served_by, aux_mode aux = aux_mode::none);
    ~transceiver();

    // -- context side --

    /// For generation-first serving: opens the sessions of `added`. Returns, each once, the
    /// requests of this and earlier calls that every receiver has asked for by now: their prefill
    /// can start, since receivers wait for it.
    std::vector<rid> prepare_context_requests(const std::vector<rid>& added);

    /// Sends the next piece of a request: the whole prompt or a chunk, slice.last with the final
    /// one. The aux record goes with the last piece, when aux is required. Events as in
    /// tx_handle::send.
    void respond_and_send_async(rid, kv_slice, std::optional<aux_record> = std::nullopt,
                                device_events events = {});

    /// Without `at_least` it waits until every request has its outcome; with 0 it returns what has
    /// ended by now; with n it waits until n have ended, at most `patience`. Every wait is bounded
    /// by the sessions' deadlines.
    transfer_check
    check_context_transfer_status(std::optional<std::size_t> at_least,
                                  std::chrono::milliseconds patience = default_patience);

    /// Where generation ranks find this rank. With attention DP, reset dp_rank while it is unknown
    /// which group will run the request.
    context_address address() const;

    // -- generation side --

    /// Asks for a whole prompt into `slice`, which is marked last. `duplicate` for a rid that has a
    /// receiving request already. Events as in rx_handle::receive.
    caf::error request_and_receive_async(rid, kv_slice slice, context_address,
                                         device_events events = {});

    /// The same, and waits for the outcome: at most as long as the session's deadlines. The request
    /// is still reported by a check, when its pages are free.
    session_finished request_and_receive_sync(rid, kv_slice slice, context_address,
                                              device_events events = {});

    transfer_check check_gen_transfer_status(std::optional<std::size_t> at_least,
                                             std::chrono::milliseconds patience = default_patience);

    /// True when no receiving request is left.
    bool check_gen_transfer_complete();

    // -- both --

    /// Gives a request up in both directions. False while its memory may still be touched: call
    /// again. True once that is over, or when the request is unknown; only then may its pages be
    /// reused.
    bool cancel_request(rid);

    bool has_inflight_transfer(rid);

    /// Requests with an outcome whose pages are not proven free.
    std::vector<rid> quarantined();

    /// One line: counts by state.
    std::string get_status_dump();

    static constexpr std::chrono::milliseconds default_patience{1000};

private:
    using clock = std::chrono::steady_clock;
    using key = std::pair<side, rid>;

    struct entry {
        std::optional<tx_handle> tx;
        std::optional<rx_handle> rx;
        clock::time_point start;
        std::optional<session_finished> outcome;
        clock::time_point end;
        bool released = false;

        const session_handle& handle() const {
            return tx ? static_cast<const session_handle&>(*tx) : *rx;
        }
    };

    session_options options_for(side, rid);
    entry& sending(rid);
    void take_events();
    bool wait_event(clock::time_point until);
    void take(const session_ready&);
    void take(const session_finished&);
    void take(const session_released&);
    void take(const piece_finished&);
    std::size_t count(side, bool (*is)(const entry&)) const;
    transfer_check check(side, std::optional<std::size_t> at_least,
                         std::chrono::milliseconds patience);

    worker& worker_;
    aux_mode aux_;
    /// Its mailbox is where sessions' callbacks put their events.
    host_actor inbox_;
    std::map<key, entry> requests_;
    /// Prepared requests that not all receivers have asked for yet.
    std::set<rid> unready_;
    std::vector<rid> ready_;
};

} // namespace kvferry
