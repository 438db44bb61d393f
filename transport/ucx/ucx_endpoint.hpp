// SPDX-License-Identifier: Apache-2.0
// One UCX endpoint and its running operations. Every result of an operation, immediate or later, is
// reported as an event, so that there is one path for both.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/wire/codec.hpp"
#include "transport/fabric/wire.hpp"
#include "transport/ucx/ucx_handles.hpp"

#include <caf/byte_buffer.hpp>

#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

namespace kvferry {

/// What UCX reports.
struct ucx_event {
    enum class kind : std::uint8_t {
        /// A message or a piece of a put: its memory is free again.
        sent,
        /// A flush: everything posted before it is visible at the target.
        flushed,
        /// The endpoint is unusable; close it by force.
        broken,
        /// UCX has freed the endpoint.
        closed,
    };
    kind what = kind::sent;
    endpoint_id endpoint;
    std::uint64_t tag = 0;
    ucs_status_t status = UCS_OK;
};

/// Filled inside UCX's callbacks, read outside of them. The list outlives the worker.
using ucx_events = std::vector<ucx_event>;

/// open -> (failed ->) closing -> closed. Operations may be started while it is open; each of them
/// gets its event, at the latest when the endpoint is closed by force.
enum class endpoint_state : std::uint8_t { open, failed, closing, closed };

class ucx_endpoint final : public wire_connection {
public:
    /// Endpoints that exist, for their worker.
    using registry = std::map<endpoint_id, ucx_endpoint*>;

    /// Turns on peer error handling: without it UCX reports no deaths. UCX connects in the
    /// background; a failure comes as an event, even when UCX refuses at once.
    static std::unique_ptr<ucx_endpoint> make(ucp_worker_h, byte_view worker_address, endpoint_id,
                                              ucx_events&, registry&);
    ~ucx_endpoint() override { all_.erase(id_); }

    ucx_endpoint(const ucx_endpoint&) = delete;
    ucx_endpoint& operator=(const ucx_endpoint&) = delete;

    endpoint_state state() const { return state_; }
    /// Nothing of it is under way, and UCX has freed it.
    bool is_over() const { return state_ == endpoint_state::closed && operations_ == 0; }
    /// UCX has ended the operations of a broken endpoint.
    bool is_broken_and_quiet() const { return reported_broken_ && operations_ == 0; }
    /// UCX has chosen a lane that writes without the target's help.
    bool has_rma_lane() const;

    /// Puts go by RMA.
    void use_rma() { by_rma_ = true; }
    bool by_rma() const override { return by_rma_; }
    caf::error learn_key(std::uint32_t region, byte_view key) override;
    /// Keys must go before their worker.
    void forget_keys() { keys_.clear(); }

    /// Always eagerly: with a rendezvous the receiver would have an open receive into which a dead
    /// or closed peer might still write.
    void send(fabric_message, byte_view head, byte_buffer payload, std::uint64_t tag) override;
    bool send_from(fabric_message, byte_view head, byte_view payload, std::uint64_t tag) override;
    bool send_gathered(fabric_message, byte_view head, std::span<const byte_view> payload,
                       std::uint64_t tag) override;
    void put(std::uint32_t region, std::uint64_t address, byte_view bytes,
             std::uint64_t tag) override;
    void flush(std::uint64_t tag) override;
    /// By force: running operations end with an error.
    void close(bool force) override;

    std::size_t waiting() const override { return operations_; }
    wire_room room() override;

    /// To be called with every event of this endpoint.
    void note(const ucx_event&);

private:
    struct operation;

    ucx_endpoint(endpoint_id id, ucx_events& events, registry& all)
        : id_(id), events_(events), all_(all) {
        all_.emplace(id, this);
    }

    void start_send(fabric_message, std::unique_ptr<operation>, byte_view head, byte_view payload);
    void started(std::unique_ptr<operation>, ucs_status_ptr_t);
    std::unique_ptr<operation> make_operation(ucx_event::kind, std::uint64_t tag);
    static void on_done(void* request, ucs_status_t, void* operation);
    static void on_broken(void* endpoint, ucp_ep_h, ucs_status_t);

    endpoint_id id_;
    ucx_events& events_;
    registry& all_;
    ucp_ep_h handle_ = nullptr;
    endpoint_state state_ = endpoint_state::open;
    /// Those that were started and have no event yet.
    std::size_t operations_ = 0;
    bool reported_broken_ = false;
    bool by_rma_ = false;
    /// By the number of the peer's region.
    std::map<std::uint32_t, ucx_rkey_handle> keys_;
};

} // namespace kvferry
