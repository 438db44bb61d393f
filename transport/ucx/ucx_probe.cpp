// SPDX-License-Identifier: Apache-2.0
// Makes a context, reads its listing, frees it.
#include "transport/ucx/ucx_probe.hpp"

#include "transport/ucx/ucx_config.hpp"
#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_handles.hpp"

namespace kvferry {

caf::expected<ucx_abilities> probe_ucx(const std::string& net_devices) {
    auto config = make_ucx_config(net_devices, true);
    if (!config)
        return std::move(config.error());
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | UCP_FEATURE_RMA;
    ucp_context_h made = nullptr;
    if (auto status = ucp_init(&params, config->get(), &made); status != UCS_OK)
        return ucx_error("ucp_init", status);
    const ucx_context_handle context{made};
    return ucx_abilities{ucx_version(), resources_of(made)};
}

} // namespace kvferry
