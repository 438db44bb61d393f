// SPDX-License-Identifier: Apache-2.0
// Makes a context, reads its listing, frees it.
#include "transport/ucx/ucx_probe.hpp"

#include "transport/ucx/ucx_error.hpp"
#include "transport/ucx/ucx_handles.hpp"

namespace kvferry {

namespace {

std::string version() {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    ucp_get_version(&major, &minor, &release);
    return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release);
}

} // namespace

caf::expected<ucx_abilities> probe_ucx() {
    ucp_config_t* config = nullptr;
    if (auto status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK)
        return ucx_error("ucp_config_read", status);
    const ucx_config_handle held{config};
    ucp_params_t params{};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP | UCP_FEATURE_RMA;
    ucp_context_h made = nullptr;
    if (auto status = ucp_init(&params, config, &made); status != UCS_OK)
        return ucx_error("ucp_init", status);
    const ucx_context_handle context{made};
    return ucx_abilities{version(), resources_of(made)};
}

} // namespace kvferry
