// SPDX-License-Identifier: Apache-2.0
// One UCX endpoint and its running operations. Every result of an operation, immediate or later, is
// reported as an event, so that there is one path for both.
#pragma once

#include "messages/values/ids.hpp"
#include "messages/wire/codec.hpp"
#include "transport/ucx/ucx_handles.hpp"

#include <caf/byte_buffer.hpp>

#include <cstdint>
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

class ucx_endpoint {
public:
    /// Turns on peer error handling: without it UCX reports no deaths. UCX connects in the
    /// background; a failure comes as an event, even when UCX refuses at once.
    static std::unique_ptr<ucx_endpoint> make(ucp_worker_h, byte_view worker_address, endpoint_id,
                                              ucx_events&);

    ucx_endpoint(const ucx_endpoint&) = delete;
    ucx_endpoint& operator=(const ucx_endpoint&) = delete;

    endpoint_state state() const { return state_; }
    /// Operations that were started and have no event yet.
    std::size_t operations() const { return operations_; }
    /// UCX has reported the endpoint as broken; UCX then ends the operations itself.
    bool reported_broken() const { return reported_broken_; }
    /// UCX has chosen a lane that writes without the target's help.
    bool has_rma_lane() const;

    /// Sends `head` and `payload`, always eagerly: with a rendezvous the receiver would have an
    /// open receive into which a dead or closed peer might still write.
    void send(unsigned message, byte_view head, byte_buffer payload, std::uint64_t tag);
    /// The same with memory that stays the caller's until the event.
    void send_from(unsigned message, byte_view head, const void* bytes, std::size_t count,
                   std::uint64_t tag);
    void put(const void* bytes, std::size_t count, std::uint64_t address, ucp_rkey_h,
             std::uint64_t tag);
    void flush(std::uint64_t tag);

    /// By force: does not wait for the peer; running operations end with an error.
    void close(bool force);

    /// To be called with every event of this endpoint.
    void note(const ucx_event&);

    caf::expected<ucx_rkey_handle> unpack(byte_view rkey) const;

private:
    struct operation;

    ucx_endpoint(endpoint_id id, ucx_events& events) : id_(id), events_(events) {}

    void started(std::unique_ptr<operation>, ucs_status_ptr_t);
    std::unique_ptr<operation> make_operation(ucx_event::kind, std::uint64_t tag);
    static void on_done(void* request, ucs_status_t, void* operation);
    static void on_broken(void* endpoint, ucp_ep_h, ucs_status_t);

    endpoint_id id_;
    ucx_events& events_;
    ucp_ep_h handle_ = nullptr;
    endpoint_state state_ = endpoint_state::open;
    std::size_t operations_ = 0;
    bool reported_broken_ = false;
};

} // namespace kvferry
