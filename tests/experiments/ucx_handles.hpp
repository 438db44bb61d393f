// SPDX-License-Identifier: Apache-2.0
// UCX handles that free themselves, for the experiments only.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

namespace experiment {

inline void check_ucx(ucs_status_t status, const char* what) {
    if (status != UCS_OK)
        throw std::runtime_error(std::string(what) + ": " + ucs_status_string(status));
}

struct context_deleter {
    void operator()(ucp_context_h h) const { ucp_cleanup(h); }
};
using context_handle = std::unique_ptr<ucp_context, context_deleter>;

struct worker_deleter {
    void operator()(ucp_worker_h h) const { ucp_worker_destroy(h); }
};
using worker_handle = std::unique_ptr<ucp_worker, worker_deleter>;

struct rkey_deleter {
    void operator()(ucp_rkey_h h) const { ucp_rkey_destroy(h); }
};
using rkey_handle = std::unique_ptr<ucp_rkey, rkey_deleter>;

/// Transports come from the environment (UCX_TLS), which the referee sets before exec.
inline context_handle make_context() {
    ucp_config_t* config = nullptr;
    check_ucx(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read");
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_RMA | UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
    ucp_context_h context = nullptr;
    const auto status = ucp_init(&params, config, &context);
    ucp_config_release(config);
    check_ucx(status, "ucp_init");
    return context_handle(context);
}

inline worker_handle make_worker(ucp_context_h context) {
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SINGLE;
    ucp_worker_h worker = nullptr;
    check_ucx(ucp_worker_create(context, &params, &worker), "ucp_worker_create");
    return worker_handle(worker);
}

/// An endpoint from the peer's worker address, with peer error handling or with none.
inline ucp_ep_h make_endpoint(ucp_worker_h worker, std::span<const std::byte> address,
                              ucp_err_handler_cb_t on_error, void* argument, bool peer_errors) {
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE
                        | UCP_EP_PARAM_FIELD_ERR_HANDLER;
    params.address = reinterpret_cast<const ucp_address_t*>(address.data());
    params.err_mode = peer_errors ? UCP_ERR_HANDLING_MODE_PEER : UCP_ERR_HANDLING_MODE_NONE;
    params.err_handler = {on_error, argument};
    ucp_ep_h endpoint = nullptr;
    check_ucx(ucp_ep_create(worker, &params, &endpoint), "ucp_ep_create");
    return endpoint;
}

/// Registered memory of the caller's; the context outlives it.
class registration {
public:
    registration(ucp_context_h context, std::span<std::byte> memory) : context_(context) {
        ucp_mem_map_params_t params{};
        params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
        params.address = memory.data();
        params.length = memory.size();
        check_ucx(ucp_mem_map(context, &params, &handle_), "ucp_mem_map");
    }
    ~registration() { ucp_mem_unmap(context_, handle_); }
    registration(const registration&) = delete;
    registration& operator=(const registration&) = delete;

    ucp_mem_h get() const { return handle_; }

private:
    ucp_context_h context_;
    ucp_mem_h handle_ = nullptr;
};

inline std::string lanes_of(ucp_ep_h endpoint) {
    char* text = nullptr;
    std::size_t size = 0;
    if (FILE* stream = open_memstream(&text, &size)) {
        ucp_ep_print_info(endpoint, stream);
        std::fclose(stream);
    }
    std::string result(text ? text : "", size);
    std::free(text);
    return result;
}

} // namespace experiment
