// SPDX-License-Identifier: Apache-2.0
// Listings in etcd, over its JSON gateway (v3): calls of one thread, which wait.
#pragma once

#include "actors/discovery/directory_options.hpp"
#include "messages/errors.hpp"
#include "messages/values/instance_listing.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// Every call asks one member after the other, at most this long in all, and its errors name them:
/// dial_failed when none answers or its certificate is refused, foreign_peer when etcd does not
/// accept the user or what the user may do, transfer_failed when it refuses for another reason.
class etcd_directory {
public:
    static constexpr std::chrono::milliseconds call_max{1000};

    using lease_id = std::string;

    /// `what` as etcd said it: only good for comparing and for asking on.
    struct snapshot {
        std::vector<instance_listing> listings;
        std::int64_t revision = 0;
    };

    /// invalid_argument: the options. unsupported: built without libcurl, or there is none here.
    static caf::expected<etcd_directory> make(const directory_options&);

    etcd_directory(etcd_directory&&) noexcept;
    ~etcd_directory();

    caf::expected<lease_id> grant(std::chrono::seconds ttl);
    /// False: etcd knows nothing of that lease (any more).
    caf::expected<bool> renew(const lease_id&);
    /// What is listed under it goes with it.
    caf::error revoke(const lease_id&);

    /// Returns what stood there before.
    caf::expected<std::optional<instance_listing>> put(const instance_listing&, const lease_id&);

    /// All listings, in the order of their names; those that cannot be read are left out.
    caf::expected<snapshot> all();

    /// Calls `changed` whenever a listing has changed behind that revision, until it returns false
    /// or etcd is lost.
    caf::error watch(std::int64_t behind, const std::function<bool()>& changed);

    /// "etcd at http://127.0.0.1:2379".
    const std::string& who() const;

private:
    struct state;
    explicit etcd_directory(std::unique_ptr<state>);

    std::unique_ptr<state> state_;
};

} // namespace kvferry
