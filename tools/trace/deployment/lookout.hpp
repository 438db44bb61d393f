// SPDX-License-Identifier: Apache-2.0
// Asks all ranks of all instances at once. A rank that does not answer costs its own line.
#pragma once

#include "messages/limits.hpp"
#include "messages/values/instance_listing.hpp"
#include "messages/wire/protocol.hpp"
#include "transport/secure/security.hpp"

#include <chrono>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace kvferry::tracing {

/// An instance, by where its rank 0 is.
struct instance_address {
    /// "host:port" of its rank-info server; of another rank's door, that rank alone is asked.
    std::string endpoint;
    /// Missing when the user has given the endpoint.
    std::optional<instance_listing> listed = {};
};

/// What is known of one rank.
struct rank_view {
    /// "prefill-3/1"; "" when nobody has said it.
    std::string name;
    /// Missing: `problem` says why.
    std::optional<rank_status> said = {};
    std::string problem = {};
    /// The rank is of a release that cannot be asked.
    bool does_not_tell = false;
};

struct instance_view {
    instance_address address;
    /// "prefill-3"; the endpoint when nobody has said it.
    std::string name;
    /// In rank order.
    std::vector<rank_view> ranks;
    /// Ranks of which nothing is known, because only rank 0 could say where they are.
    std::size_t ranks_unknown = 0;
};

/// Asked at the same time.
inline constexpr std::size_t ranks_at_once = 64;

class lookout {
public:
    struct terms {
        security_ptr how;
        limits bounds = {};
        /// For each rank, over all of its addresses.
        std::chrono::milliseconds deadline{2000};
    };

    explicit lookout(terms with) : with_(std::move(with)) {}

    /// In the order of the addresses. Takes about two deadlines at most, unless more than
    /// `ranks_at_once` are silent. Where ranks are is remembered, for a rank 0 that is silent
    /// later.
    std::vector<instance_view> look(const std::vector<instance_address>&, const query_rank&);

private:
    /// By endpoint of the instance.
    std::map<std::string, std::vector<rank_place>> places_;
    terms with_;
};

/// Asks one rank at each of these addresses, until one of them answers.
rank_view ask_rank(const std::vector<std::string>& endpoints, const query_rank&,
                   const lookout::terms&);

/// The name of the instance in that of a rank.
std::string instance_of(const std::string& rank);

} // namespace kvferry::tracing
