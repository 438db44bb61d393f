// SPDX-License-Identifier: Apache-2.0
// Plain loops over ucp calls.
#include "tools/bench/raw_ucx.hpp"

#include "messages/values/ids.hpp"
#include "messages/values/time.hpp"
#include "transport/ucx/ucx_error.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <poll.h>

namespace kvferry::bench {

namespace {

constexpr unsigned message_number = 0;
/// About as long as one of kvferry's reports.
constexpr std::size_t message_bytes = 128;
/// The same as limits::puts_in_flight_max.
constexpr std::size_t puts_in_flight_max = 256;
/// How many rounds of progress pass between two checks for the end of serving.
constexpr int rounds_per_look = 64;
constexpr int sleep_ms_max = 1;

/// Ignored: a broken endpoint already shows as an error of the operations on it.
void on_broken(void*, ucp_ep_h, ucs_status_t) {}

} // namespace

caf::expected<std::unique_ptr<raw_ucx>> raw_ucx::make(bool spin) {
    std::unique_ptr<raw_ucx> x{new raw_ucx};
    x->spin_ = spin;
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_AM | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
    ucp_context_h context = nullptr;
    if (auto status = ucp_init(&params, nullptr, &context); status != UCS_OK)
        return ucx_error("ucp_init", status);
    x->context_.reset(context);
    ucp_worker_params_t how{};
    how.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    how.thread_mode = UCS_THREAD_MODE_SINGLE;
    ucp_worker_h worker = nullptr;
    if (auto status = ucp_worker_create(context, &how, &worker); status != UCS_OK)
        return ucx_error("ucp_worker_create", status);
    x->worker_.reset(worker);
    if (auto status = ucp_worker_get_efd(worker, &x->event_fd_); status != UCS_OK)
        return ucx_error("ucp_worker_get_efd", status);
    ucp_am_handler_param_t handler{};
    handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB
                         | UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS;
    handler.id = message_number;
    handler.cb = &raw_ucx::on_message;
    handler.arg = x.get();
    handler.flags = UCP_AM_FLAG_WHOLE_MSG;
    if (auto status = ucp_worker_set_am_recv_handler(worker, &handler); status != UCS_OK)
        return ucx_error("ucp_worker_set_am_recv_handler", status);
    return x;
}

raw_ucx::~raw_ucx() {
    key_.reset();
    if (!endpoint_)
        return;
    ucp_request_param_t how{};
    how.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    how.flags = UCP_EP_CLOSE_FLAG_FORCE;
    static_cast<void>(wait(ucp_ep_close_nbx(endpoint_, &how)));
}

/// The first message is the address of its sender, all others are answered as they are.
ucs_status_t raw_ucx::on_message(void* user, const void*, std::size_t, void* data,
                                 std::size_t bytes, const ucp_am_recv_param_t*) {
    auto* self = static_cast<raw_ucx*>(user);
    ++self->arrived_;
    if (self->peer_address_.empty() && !self->endpoint_) {
        const auto* begin = static_cast<const std::byte*>(data);
        self->peer_address_.assign(begin, begin + bytes);
    }
    return UCS_OK;
}

caf::error raw_ucx::open(const void* address) {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE
                        | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = static_cast<const ucp_address_t*>(address);
    params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    params.err_handler = {&on_broken, nullptr};
    const auto status = ucp_ep_create(worker_.get(), &params, &endpoint_);
    return status == UCS_OK ? caf::error{} : ucx_error("ucp_ep_create", status);
}

void raw_ucx::progress_or_sleep() {
    if (ucp_worker_progress(worker_.get()) != 0 || spin_)
        return;
    if (ucp_worker_arm(worker_.get()) != UCS_OK)
        return;
    pollfd watched{event_fd_, POLLIN, 0};
    ::poll(&watched, 1, sleep_ms_max);
}

caf::error raw_ucx::wait(ucs_status_ptr_t request) {
    if (!UCS_PTR_IS_PTR(request)) {
        const auto status = UCS_PTR_RAW_STATUS(request);
        return status == UCS_OK ? caf::error{} : ucx_error("a raw operation", status);
    }
    ucs_status_t status = UCS_INPROGRESS;
    while ((status = ucp_request_check_status(request)) == UCS_INPROGRESS)
        progress_or_sleep();
    ucp_request_free(request);
    return status == UCS_OK ? caf::error{} : ucx_error("a raw operation", status);
}

ucs_status_ptr_t raw_ucx::send(const void* bytes, std::size_t count) {
    ucp_request_param_t how{};
    how.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    how.flags = UCP_AM_SEND_FLAG_EAGER;
    return ucp_am_send_nbx(endpoint_, message_number, nullptr, 0, bytes, count, &how);
}

// -- the passive side
// -------------------------------------------------------------------------------

caf::expected<raw_target> raw_ucx::describe(std::byte* base, std::uint64_t bytes) {
    raw_target result;
    ucp_address_t* address = nullptr;
    std::size_t address_bytes = 0;
    if (auto status = ucp_worker_get_address(worker_.get(), &address, &address_bytes);
        status != UCS_OK)
        return ucx_error("ucp_worker_get_address", status);
    const auto* begin = reinterpret_cast<const std::uint8_t*>(address);
    result.address.assign(begin, begin + address_bytes);
    ucp_worker_release_address(worker_.get(), address);
    if (!base)
        return result;
    ucp_mem_map_params_t how{};
    how.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
    how.address = base;
    how.length = bytes;
    ucp_mem_h memory = nullptr;
    if (auto status = ucp_mem_map(context_.get(), &how, &memory); status != UCS_OK)
        return ucx_error("ucp_mem_map", status);
    memory_ = ucx_mapped_memory{context_.get(), memory};
    void* packed = nullptr;
    std::size_t packed_bytes = 0;
    if (auto status = ucp_rkey_pack(context_.get(), memory, &packed, &packed_bytes);
        status != UCS_OK)
        return ucx_error("ucp_rkey_pack", status);
    const auto* key = static_cast<const std::uint8_t*>(packed);
    result.key.assign(key, key + packed_bytes);
    ucp_rkey_buffer_release(packed);
    result.base = reinterpret_cast<std::uint64_t>(base);
    return result;
}

void raw_ucx::serve(const std::function<bool()>& over) {
    std::array<std::byte, message_bytes> answer{};
    for (int round = 1; round % rounds_per_look != 0 || !over(); ++round) {
        progress_or_sleep();
        if (!endpoint_ && !peer_address_.empty() && open(peer_address_.data()))
            return;
        for (; endpoint_ && answered_ < arrived_; ++answered_)
            static_cast<void>(wait(send(answer.data(), answer.size())));
    }
}

// -- the measuring side
// -----------------------------------------------------------------------------

caf::error raw_ucx::connect(const raw_target& target) {
    if (auto problem = open(target.address.data()))
        return problem;
    ucp_address_t* own = nullptr;
    std::size_t bytes = 0;
    if (auto status = ucp_worker_get_address(worker_.get(), &own, &bytes); status != UCS_OK)
        return ucx_error("ucp_worker_get_address", status);
    auto problem = wait(send(own, bytes));
    ucp_worker_release_address(worker_.get(), own);
    const auto until = clock::now() + std::chrono::seconds{5};
    while (!problem && arrived_ == 0 && clock::now() < until)
        progress_or_sleep();
    if (problem || arrived_ == 0)
        return problem ? problem : make_error(errc::dial_failed, "raw UCX: no answer");
    if (target.key.empty())
        return {};
    ucp_rkey_h key = nullptr;
    if (auto status = ucp_ep_rkey_unpack(endpoint_, target.key.data(), &key); status != UCS_OK)
        return ucx_error("ucp_ep_rkey_unpack", status);
    key_.reset(key);
    target_base_ = target.base;
    return {};
}

caf::expected<std::chrono::duration<double>> raw_ucx::round_trip(int count) {
    std::array<std::byte, message_bytes> message{};
    std::vector<std::chrono::duration<double>> times;
    for (int trip = 0; trip < count; ++trip) {
        const auto before = arrived_;
        const auto began = clock::now();
        if (auto problem = wait(send(message.data(), message.size())))
            return problem;
        while (arrived_ == before)
            progress_or_sleep();
        times.emplace_back(clock::now() - began);
    }
    std::nth_element(times.begin(), times.begin() + count / 2, times.end());
    return times[static_cast<std::size_t>(count / 2)];
}

caf::expected<std::chrono::duration<double>> raw_ucx::put(const std::byte* source,
                                                          const schedule& plan, std::uint64_t first,
                                                          std::uint64_t count) {
    std::vector<piece> pieces;
    for (auto transfer = first; transfer < first + count; ++transfer)
        plan.for_each_piece(transfer, 0, [&](const piece& x) { pieces.push_back(x); });
    const auto bytes = plan.shape().region_bytes;
    ucp_request_param_t how{};
    std::vector<ucs_status_ptr_t> window(puts_in_flight_max, nullptr);
    caf::error problem;
    const auto began = clock::now();
    for (std::size_t index = 0; index < pieces.size() && !problem; ++index) {
        auto& place = window[index % window.size()];
        problem = wait(place);
        place = ucp_put_nbx(endpoint_, source + pieces[index].source_offset, bytes,
                            target_base_ + pieces[index].target_offset, key_.get(), &how);
    }
    for (auto request : window)
        if (auto failed = wait(request); failed && !problem)
            problem = failed;
    if (auto failed = wait(ucp_ep_flush_nbx(endpoint_, &how)); failed && !problem)
        problem = failed;
    if (problem)
        return problem;
    return clock::now() - began;
}

} // namespace kvferry::bench
