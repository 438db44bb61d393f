// SPDX-License-Identifier: Apache-2.0
// What a request itself says about who takes part in it; the rest are the ranks of both instances.
#pragma once

#include "messages/local/sessions.hpp"
#include "messages/values/allow_missing.hpp"
#include "messages/values/aux_record.hpp"

#include <compare>
#include <cstdint>
#include <optional>

namespace kvferry {

struct parties_wanted {
    /// Of the context group that runs the request; without it every one is a candidate.
    std::optional<std::uint32_t> context_dp_rank = {};
    aux_mode aux = aux_mode::none;
    allow_missing allowed = {};

    friend auto operator<=>(const parties_wanted&, const parties_wanted&) = default;
};

inline parties_wanted parties_wanted_by(const open_rx& x) {
    return {x.context_dp_rank, x.aux, x.allowed};
}

} // namespace kvferry
