// SPDX-License-Identifier: Apache-2.0
// Operations on an endpoint; each carries what must live until its callback.
#include "transport/ucx/ucx_endpoint.hpp"

#include "messages/trace/log.hpp"
#include "transport/fabric/fabric_messages.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/ucx/ucx_error.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace kvferry {

namespace {

/// Longest message of a put. With its headers it fills one segment of UCX's TCP transport (64 KiB,
/// ucx_config.cpp), so that the target copies it straight out of the receive buffer; UCX first
/// assembles longer messages in separate memory.
constexpr std::uint64_t piece_bytes_max = 60000;
/// So many that the head of a bundle fits beside its bytes.
constexpr std::size_t stretches_max = 128;

} // namespace

/// Owned by UCX until the callback, which may come after the endpoint has gone.
struct ucx_endpoint::operation {
    ucx_events* events = nullptr;
    ucx_event event;
    std::array<caf::byte, head_bytes_max> short_head;
    byte_buffer long_head;
    byte_buffer payload;
    std::vector<ucp_dt_iov_t> parts;

    const caf::byte* keep_head(byte_view bytes) {
        if (bytes.size() > short_head.size()) {
            long_head.assign(bytes.begin(), bytes.end());
            return long_head.data();
        }
        std::copy(bytes.begin(), bytes.end(), short_head.begin());
        return short_head.data();
    }
};

std::unique_ptr<ucx_endpoint> ucx_endpoint::make(ucp_worker_h worker, byte_view worker_address,
                                                 endpoint_id id, ucx_events& events,
                                                 registry& all) {
    std::unique_ptr<ucx_endpoint> result{new ucx_endpoint(id, events, all)};
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE
                        | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(worker_address.data());
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler = {&ucx_endpoint::on_broken, result.get()};
    auto status = made_to_fail("ucp_ep_create") ? UCS_ERR_NO_MEMORY
                                                : ucp_ep_create(worker, &params, &result->handle_);
    if (status != UCS_OK) { // no listener, for example; reported as an event like a later failure
        result->handle_ = nullptr;
        events.push_back({ucx_event::kind::broken, id, 0, status});
    }
    return result;
}

bool ucx_endpoint::has_rma_lane() const {
    if (!handle_)
        return false;
    // UCX has no call for this, but its printed description lists the uses of each lane on a line.
    auto text = ucx_text([this](std::FILE* to) { ucp_ep_print_info(handle_, to); });
    for (std::size_t at = 0; (at = text.find("lane[", at)) != std::string::npos;) {
        auto end = std::min(text.find('\n', at), text.size());
        if (text.substr(at, end - at).find(" rma") != std::string::npos)
            return true;
        at = end;
    }
    return false;
}

std::unique_ptr<ucx_endpoint::operation> ucx_endpoint::make_operation(ucx_event::kind what,
                                                                      std::uint64_t tag) {
    auto x = std::make_unique<operation>();
    x->events = &events_;
    x->event = {what, id_, tag, UCS_OK};
    ++operations_;
    return x;
}

void ucx_endpoint::started(std::unique_ptr<operation> x, ucs_status_ptr_t request) {
    if (UCS_PTR_IS_PTR(request)) {
        (void)x.release(); // on_done has it now
        return;
    }
    x->event.status = UCS_PTR_RAW_STATUS(request);
    events_.push_back(x->event);
}

void ucx_endpoint::on_done(void* request, ucs_status_t status, void* user) {
    std::unique_ptr<operation> x{static_cast<operation*>(user)};
    x->event.status = status;
    x->events->push_back(x->event);
    ucp_request_free(request);
}

void ucx_endpoint::on_broken(void* user, ucp_ep_h, ucs_status_t status) {
    // Only records the event: the endpoint must not be closed inside this callback.
    auto* self = static_cast<ucx_endpoint*>(user);
    self->events_.push_back({ucx_event::kind::broken, self->id_, 0, status});
}

namespace {

ucp_request_param_t parameters(ucp_send_nbx_callback_t callback, void* user, std::uint32_t flags) {
    ucp_request_param_t result{};
    result.op_attr_mask =
        UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
    result.cb.send = callback;
    result.user_data = user;
    result.flags = flags;
    return result;
}

} // namespace

void ucx_endpoint::start_send(fabric_message message, std::unique_ptr<operation> x, byte_view head,
                              byte_view payload) {
    const auto* kept = x->keep_head(head);
    auto params = parameters(&ucx_endpoint::on_done, x.get(), UCP_AM_SEND_FLAG_EAGER);
    const void* from = payload.data();
    auto count = payload.size();
    if (!x->parts.empty()) {
        params.op_attr_mask |= UCP_OP_ATTR_FIELD_DATATYPE;
        params.datatype = UCP_DATATYPE_IOV;
        from = x->parts.data();
        count = x->parts.size();
    }
    if (!handle_)
        return started(std::move(x), UCS_STATUS_PTR(UCS_ERR_NOT_CONNECTED));
    auto* request = ucp_am_send_nbx(handle_, static_cast<unsigned>(message), kept, head.size(),
                                    from, count, &params);
    started(std::move(x), request);
}

void ucx_endpoint::send(fabric_message message, byte_view head, byte_buffer payload,
                        std::uint64_t tag) {
    auto x = make_operation(ucx_event::kind::sent, tag);
    x->payload = std::move(payload);
    const byte_view kept = x->payload;
    start_send(message, std::move(x), head, kept);
}

bool ucx_endpoint::send_from(fabric_message message, byte_view head, byte_view payload,
                             std::uint64_t tag) {
    start_send(message, make_operation(ucx_event::kind::sent, tag), head, payload);
    return false;
}

bool ucx_endpoint::send_gathered(fabric_message message, byte_view head,
                                 std::span<const byte_view> payload, std::uint64_t tag) {
    auto x = make_operation(ucx_event::kind::sent, tag);
    x->parts.reserve(payload.size());
    for (const auto& part : payload)
        x->parts.push_back({const_cast<caf::byte*>(part.data()), part.size()});
    start_send(message, std::move(x), head, {});
    return false;
}

wire_room ucx_endpoint::room() {
    return {.piece_bytes_max = piece_bytes_max,
            .bundle_bytes_max = piece_bytes_max,
            .bundle_stretches_max = stretches_max};
}

void ucx_endpoint::put(std::uint32_t region, std::uint64_t address, byte_view bytes,
                       std::uint64_t tag) {
    auto x = make_operation(ucx_event::kind::sent, tag);
    auto params = parameters(&ucx_endpoint::on_done, x.get(), 0);
    if (!handle_)
        return started(std::move(x), UCS_STATUS_PTR(UCS_ERR_NOT_CONNECTED));
    auto* request =
        ucp_put_nbx(handle_, bytes.data(), bytes.size(), address, keys_.at(region).get(), &params);
    started(std::move(x), request);
}

void ucx_endpoint::flush(std::uint64_t tag) {
    auto x = make_operation(ucx_event::kind::flushed, tag);
    auto params = parameters(&ucx_endpoint::on_done, x.get(), 0);
    if (!handle_)
        return started(std::move(x), UCS_STATUS_PTR(UCS_ERR_NOT_CONNECTED));
    auto* request = ucp_ep_flush_nbx(handle_, &params);
    started(std::move(x), request);
}

void ucx_endpoint::close(bool force) {
    if (state_ == endpoint_state::closing || state_ == endpoint_state::closed)
        return; // UCX has taken the handle back
    state_ = endpoint_state::closing;
    auto x = make_operation(ucx_event::kind::closed, 0);
    if (!handle_)
        return started(std::move(x), nullptr);
    auto params = parameters(&ucx_endpoint::on_done, x.get(), force ? UCP_EP_CLOSE_FLAG_FORCE : 0);
    auto* request = ucp_ep_close_nbx(handle_, &params);
    started(std::move(x), request);
}

void ucx_endpoint::note(const ucx_event& event) {
    if (event.what == ucx_event::kind::broken) {
        reported_broken_ = true;
        if (state_ == endpoint_state::open)
            state_ = endpoint_state::failed;
        return;
    }
    --operations_;
    if (event.what == ucx_event::kind::closed) {
        state_ = endpoint_state::closed;
        handle_ = nullptr;
    }
}

caf::error ucx_endpoint::learn_key(std::uint32_t region, byte_view key) {
    if (!handle_)
        return ucx_error("ucp_ep_rkey_unpack", UCS_ERR_NOT_CONNECTED);
    ucp_rkey_h unpacked = nullptr;
    if (auto status = ucp_ep_rkey_unpack(handle_, key.data(), &unpacked); status != UCS_OK)
        return ucx_error("ucp_ep_rkey_unpack", status);
    keys_.insert_or_assign(region, ucx_rkey_handle{unpacked});
    return {};
}

} // namespace kvferry
