// SPDX-License-Identifier: Apache-2.0
// A UCX context and its worker, polled by a loop: made, used and destroyed on the loop's thread.
#pragma once

#include "messages/wire/codec.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/loop/forked_child.hpp"
#include "transport/loop/io_loop.hpp"
#include "transport/ucx/ucx_descriptors.hpp"
#include "transport/ucx/ucx_endpoint.hpp"
#include "transport/ucx/ucx_handles.hpp"
#include "transport/ucx/ucx_wire.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace kvferry {

class ucx_worker final : public loop_poller {
public:
    /// Gets a whole active message, valid only during the call; called from inside UCX.
    using receiver = std::function<void(fabric_message, byte_view head, byte_view payload)>;

    /// Called on the loop's thread. `net_devices`: those that UCX may use (network_devices.hpp).
    /// ucx_failed, unsupported or system_call_failed; on an error nothing is left behind.
    static caf::expected<std::unique_ptr<ucx_worker>>
    make(io_loop&, put_method, std::string net_devices, bool tcp = true);
    ~ucx_worker() override;

    /// Call once, before the first progress. `after_progress` is called after each round, outside
    /// of UCX; it returns whether it found something to do.
    void start(receiver on_message, std::function<bool()> after_progress);

    /// The worker's address, sealed; other workers connect with it.
    const byte_buffer& address() const { return address_; }
    /// Names of transports that report the death of a peer: "tcp", "rc_verbs, tcp".
    const std::string& transports() const { return transports_; }
    /// The network devices behind them, with their addresses: "lo (127.0.0.1)".
    const std::string& networks() const { return networks_; }
    /// Whether access keys carry what RMA needs.
    bool has_rma() const { return has_rma_; }

    ucx_events& events() { return events_; }
    const ucx_endpoint::registry& endpoints() const { return endpoints_; }

    /// Connects to another worker by its sealed address. dial_failed when the address is invalid.
    caf::expected<std::unique_ptr<ucx_endpoint>> connect(byte_view address, endpoint_id);

    caf::expected<ucx_mapped_memory> map(std::byte* base, std::uint64_t bytes, bool cuda) const;
    caf::expected<byte_buffer> pack_key(const ucx_mapped_memory&) const;

    /// Makes the connections close-on-exec that UCX has opened up to now.
    void guard_connections() const;

    /// How many of the ports under which peers reach this worker UCX has closed since the last
    /// call. It does so at the first accept without a descriptor, and never opens them again.
    std::size_t closed_ports() { return forget_closed(ports_); }
    bool has_ports() const { return !ports_.empty(); }

    /// Frees worker and context; running operations end now. Keys and mapped memory must have been
    /// freed before; endpoints are freed too.
    void destroy() noexcept;

    bool progress() override;
    int event_fd() override { return event_fd_; }
    bool arm() override;

private:
    ucx_worker(io_loop& loop, std::string net_devices, bool tcp)
        : loop_(loop), net_devices_(std::move(net_devices)), tcp_(tcp) {}

    caf::error make_context(bool rma);
    caf::error make_worker();
    static ucs_status_t on_message(void* slot, const void* head, size_t head_bytes, void* data,
                                   size_t bytes, const ucp_am_recv_param_t*);

    /// Passed to UCX as the callback argument for one message number.
    struct message_slot {
        ucx_worker* worker = nullptr;
        fabric_message message = fabric_message::frame;
    };

    io_loop& loop_;
    std::string net_devices_;
    /// UCX's TCP transport may be used.
    bool tcp_;
    ucx_events events_;
    ucx_endpoint::registry endpoints_;
    message_slot slots_[fabric_message_count];
    receiver on_message_;
    std::function<bool()> after_progress_;
    ucx_context_handle context_;
    ucx_worker_handle worker_;
    byte_buffer address_;
    std::string transports_;
    std::string networks_;
    bool has_rma_ = false;
    bool has_rma_hardware_ = false;
    bool added_ = false;
    int event_fd_ = -1;
    /// Epoll sets of UCX that came with the worker.
    std::set<int> made_sets_;
    listening_sockets ports_;
    /// A forked child lets go of UCX's sockets.
    std::optional<in_forked_child> in_child_;
};

} // namespace kvferry
