// SPDX-License-Identifier: Apache-2.0
// How a UCX worker is made, polled and freed.
#include "transport/ucx/ucx_worker.hpp"

#include "messages/trace/log.hpp"
#include "transport/fabric/sealed_bytes.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/ucx/network_devices.hpp"
#include "transport/ucx/ucx_config.hpp"
#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_log.hpp"
#include "transport/ucx/ucx_resources.hpp"

#include <algorithm>
#include <exception>
#include <set>
#include <string_view>

namespace kvferry {

namespace {

constexpr std::string_view address_label = "ucx address";

/// A call of UCX that a test can make fail.
template <class F>
ucs_status_t call(const char* name, F&& f) {
    return made_to_fail(name) ? UCS_ERR_NO_MEMORY : f();
}

} // namespace

caf::expected<std::unique_ptr<ucx_worker>> ucx_worker::make(io_loop& loop, put_method puts,
                                                            std::string net_devices, bool tcp) {
    std::unique_ptr<ucx_worker> result{new ucx_worker(loop, std::move(net_devices), tcp)};
    // Without the RMA feature no peer can use UCX's emulation of it, which checks no key.
    if (auto error = result->make_context(puts == put_method::rma))
        return error;
    if (puts == put_method::automatic && result->has_rma_hardware_)
        if (auto error = result->make_context(true))
            return error;
    if (auto error = result->make_worker())
        return error;
    if (auto error = loop.add(*result))
        return error;
    result->added_ = true;
    return result;
}

ucx_worker::~ucx_worker() {
    destroy();
}

void ucx_worker::destroy() noexcept {
    if (std::exchange(added_, false))
        loop_.remove(*this);
    in_child_.reset();
    ports_.clear();
    worker_.reset();
    context_.reset();
}

caf::error ucx_worker::make_context(bool rma) {
    forward_ucx_log();
    context_.reset();
    auto config = make_ucx_config(net_devices_, rma, tcp_);
    if (!config)
        return std::move(config.error());
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
    params.features =
        UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | (rma ? std::uint64_t{UCP_FEATURE_RMA} : 0);
    params.name = "kvferry";
    ucp_context_h context = nullptr;
    if (auto status = call("ucp_init", [&] { return ucp_init(&params, config->get(), &context); });
        status != UCS_OK)
        return add_context(ucx_error("ucp_init", status),
                           "no usable transport; see UCX_TLS, UCX_NET_DEVICES");
    context_.reset(context);
    has_rma_ = rma;
    has_rma_hardware_ = false;
    transports_.clear();
    std::set<std::string> names; // one transport may have several devices
    const auto resources = resources_of(context);
    if (auto problem = check_resources(resources))
        return problem;
    for (const auto& resource : resources)
        if (reports_death(resource.transport))
            names.insert(resource.transport);
    auto used = network_devices();
    std::erase_if(used, [&resources](const network_device& x) {
        return std::none_of(resources.begin(), resources.end(),
                            [&x](const ucx_resource& y) { return y.device == x.name; });
    });
    networks_ = to_string(used);
    for (const auto& name : names) {
        transports_.append(transports_.empty() ? "" : ", ").append(name);
        has_rma_hardware_ = has_rma_hardware_ || has_rma_hardware(name);
    }
    return {};
}

caf::error ucx_worker::make_worker() {
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SINGLE;
    ucp_worker_h worker = nullptr;
    const auto others = epoll_sets();
    if (auto status = call("ucp_worker_create",
                           [&] { return ucp_worker_create(context_.get(), &params, &worker); });
        status != UCS_OK)
        return ucx_error("ucp_worker_create" + shared_memory_shortage(), status);
    worker_.reset(worker);
    for (unsigned message = 0; message < fabric_message_count; ++message) {
        slots_[message] = {this, static_cast<fabric_message>(message)};
        ucp_am_handler_param_t handler{};
        handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB
                             | UCP_AM_HANDLER_PARAM_FIELD_ARG | UCP_AM_HANDLER_PARAM_FIELD_FLAGS;
        handler.id = message;
        handler.cb = &ucx_worker::on_message;
        handler.arg = &slots_[message];
        handler.flags = UCP_AM_FLAG_WHOLE_MSG;
        if (auto status = call("ucp_worker_set_am_recv_handler",
                               [&] { return ucp_worker_set_am_recv_handler(worker, &handler); });
            status != UCS_OK)
            return ucx_error("ucp_worker_set_am_recv_handler", status);
    }
    ucp_address_t* address = nullptr;
    std::size_t bytes = 0;
    if (auto status = call("ucp_worker_get_address",
                           [&] { return ucp_worker_get_address(worker, &address, &bytes); });
        status != UCS_OK)
        return ucx_error("ucp_worker_get_address", status);
    address_ = seal(address_label, address, bytes);
    ucp_worker_release_address(worker, address);
    if (auto status =
            call("ucp_worker_get_efd", [&] { return ucp_worker_get_efd(worker, &event_fd_); });
        status != UCS_OK)
        return ucx_error("ucp_worker_get_efd", status);
    made_sets_ = epoll_sets();
    std::erase_if(made_sets_, [&others](int fd) { return others.contains(fd); });
    const auto all = ucx_descriptors(event_fd_, made_sets_);
    close_on_exec(all);
    ports_ = listening_among(all);
    in_child_.emplace([event_fd = event_fd_, made = made_sets_] {
        blank_sockets(ucx_descriptors(event_fd, made));
    });
    return {};
}

void ucx_worker::guard_connections() const {
    if (worker_)
        close_on_exec(polled_descriptors(event_fd_, made_sets_));
}

void ucx_worker::start(receiver on_message, std::function<bool()> after_progress) {
    on_message_ = std::move(on_message);
    after_progress_ = std::move(after_progress);
}

bool ucx_worker::progress() {
    const bool any = worker_ && ucp_worker_progress(worker_.get()) != 0;
    return (after_progress_ && after_progress_()) || any;
}

bool ucx_worker::arm() {
    if (!worker_)
        return true;
    if (!events_.empty())
        return false;
    auto status = ucp_worker_arm(worker_.get());
    if (status != UCS_OK && status != UCS_ERR_BUSY)
        logger().error("{}; the loop polls instead", describe(ucx_error("ucp_worker_arm", status)));
    return status == UCS_OK;
}

ucs_status_t ucx_worker::on_message(void* slot, const void* head, size_t head_bytes, void* data,
                                    size_t bytes, const ucp_am_recv_param_t* how) {
    auto* at = static_cast<message_slot*>(slot);
    // kvferry never sends a rendezvous; returning without fetching its data ends it.
    if ((how->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0 || !at->worker->on_message_)
        return UCS_OK;
    try { // UCX is C: no exception may pass through it
        at->worker->on_message_(at->message, {static_cast<const caf::byte*>(head), head_bytes},
                                {static_cast<const caf::byte*>(data), bytes});
    } catch (const std::exception& error) {
        logger().error("ucx_io: a message of {} bytes is lost: {}", bytes, error.what());
    }
    return UCS_OK;
}

caf::expected<std::unique_ptr<ucx_endpoint>> ucx_worker::connect(byte_view address,
                                                                 endpoint_id id) {
    auto inside = unseal(address_label, address);
    if (!inside)
        return make_error(errc::dial_failed, text_of(inside.error()));
    return ucx_endpoint::make(worker_.get(), *inside, id, events_, endpoints_);
}

caf::expected<ucx_mapped_memory> ucx_worker::map(std::byte* base, std::uint64_t bytes,
                                                 bool cuda) const {
    ucp_mem_map_params_t params{};
    params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH
                        | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
    params.address = base;
    params.length = bytes;
    params.memory_type = cuda ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST;
    ucp_mem_h memory = nullptr;
    if (auto status =
            call("ucp_mem_map", [&] { return ucp_mem_map(context_.get(), &params, &memory); });
        status != UCS_OK)
        return make_error(errc::registration_failed, "{} bytes: {}", bytes,
                          text_of(ucx_error("ucp_mem_map", status)));
    return ucx_mapped_memory{context_.get(), memory};
}

caf::expected<byte_buffer> ucx_worker::pack_key(const ucx_mapped_memory& memory) const {
    void* packed = nullptr;
    std::size_t bytes = 0;
    if (auto status =
            call("ucp_rkey_pack",
                 [&] { return ucp_rkey_pack(context_.get(), memory.get(), &packed, &bytes); });
        status != UCS_OK)
        return make_error(errc::registration_failed, text_of(ucx_error("ucp_rkey_pack", status)));
    const auto* from = static_cast<const caf::byte*>(packed);
    byte_buffer result(from, from + bytes);
    ucp_rkey_buffer_release(packed);
    return result;
}

} // namespace kvferry
