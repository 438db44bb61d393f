// SPDX-License-Identifier: Apache-2.0
// Built without libcurl or nlohmann_json: no directory, by name.
#include "actors/discovery/etcd_directory.hpp"
#include "messages/values/error_format.hpp"

#include <utility>

namespace kvferry {

struct etcd_directory::state {
    std::string who;
};

namespace {

caf::error absent() {
    return make_error(errc::unsupported,
                      "kvferry was built without libcurl or nlohmann_json, which etcd needs");
}

} // namespace

etcd_directory::etcd_directory(std::unique_ptr<state> x) : state_(std::move(x)) {}
etcd_directory::etcd_directory(etcd_directory&&) noexcept = default;
etcd_directory::~etcd_directory() = default;

caf::expected<etcd_directory> etcd_directory::make(const directory_options&) {
    return absent();
}

caf::expected<etcd_directory::lease_id> etcd_directory::grant(std::chrono::seconds) {
    return absent();
}

caf::expected<bool> etcd_directory::renew(const lease_id&) {
    return absent();
}

caf::error etcd_directory::revoke(const lease_id&) {
    return absent();
}

caf::expected<std::optional<instance_listing>> etcd_directory::put(const instance_listing&,
                                                                   const lease_id&) {
    return absent();
}

caf::expected<etcd_directory::snapshot> etcd_directory::all() {
    return absent();
}

caf::error etcd_directory::watch(std::int64_t, const std::function<bool()>&) {
    return absent();
}

const std::string& etcd_directory::who() const {
    return state_->who;
}

} // namespace kvferry
