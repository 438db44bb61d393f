// SPDX-License-Identifier: Apache-2.0
// Instances whose rank infos their hosts carry, instead of rank-info servers: as bytes, and as one
// rank remembers them. Pure.
//
// Such an instance is addressed as "@name", which is no endpoint of a server.
#pragma once

#include "messages/limits.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/wire/codec.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvferry {

/// "@prefill-0".
std::string carried_address(std::string_view instance);
bool is_carried(std::string_view address);

/// The info of one rank, to be carried: in the version `limits::protocol`, since nobody knows who
/// will read it. limit_exceeded: it is longer than the limits allow.
caf::expected<byte_buffer> bytes_of(const rank_info&, const limits&);

/// All ranks of one instance, in rank order, from what bytes_of() made of them, in any order.
/// Errors say which of the infos is meant:
/// malformed_message: the bytes are cut, damaged or something else; protocol_mismatch: of another
/// release; invalid_argument: none, or of several instances; duplicate: a rank twice;
/// instance_incomplete: ranks are missing; layout_mismatch: they split the model differently;
/// limit_exceeded: more than limits::instance_bytes_max.
caf::expected<std::vector<rank_info>> instance_from(const std::vector<byte_buffer>&, const limits&);

class carried_instances {
public:
    /// `own` is the address of the rank's own instance; of a served instance it never occurs here.
    carried_instances(std::string own, std::size_t instances_max)
        : own_(std::move(own)), instances_max_(instances_max) {}

    /// Takes the place of what was known of that instance. limit_exceeded: there are too many.
    /// stale_incarnation: it is the own instance, and names this rank as it was before.
    caf::error add(const std::string& address, std::vector<rank_info> ranks);
    void remove(const std::string& address) { known_.erase(address); }

    /// This rank itself, as it publishes.
    void enter_self(rank_info);

    /// instance_incomplete: nobody has carried it here.
    caf::expected<std::vector<rank_info>> find(const std::string& address) const;

private:
    std::string own_;
    std::size_t instances_max_;
    std::optional<rank_info> self_;
    std::map<std::string, std::vector<rank_info>> known_;
};

} // namespace kvferry
