// SPDX-License-Identifier: Apache-2.0
// The checks that make a pair of views safe to map.
#pragma once

#include "transport/planner/layout/layout_error.hpp"
#include "transport/planner/layout/layout_match.hpp"

#include <string>

namespace kvferry {

/// Two views that share a role and a layer, while they are being checked.
struct view_candidate {
    const rank_info& writer;
    const rank_info& receiver;
    const layer_group& source_group;
    const layer_group& target_group;
    const pool_view& source;
    const pool_view& target;

    template <class T>
    caf::error differs(const std::string& field, const T& source_value,
                       const T& target_value) const {
        return detail::mismatch(field + " of " + detail::text(source.roles), writer, source_value,
                                receiver, target_value);
    }
};

/// Checks of whole views. layout_mismatch names the field and both values.
caf::error check_views(const view_candidate&);

/// Checks of one buffer of one layer; the views must have passed check_views.
caf::error check_entries(const view_candidate&, const entry_pair&);

} // namespace kvferry
