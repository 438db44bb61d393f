// SPDX-License-Identifier: Apache-2.0
// Makes CAF know our types before main() starts: include it in every test file that uses actors.
#pragma once

#include "messages/local/type_ids.hpp"

#include <caf/init_global_meta_objects.hpp>

namespace kvferry::testing {

/// Must be over before the first actor_system is made; one object per test binary.
inline const bool caf_is_set_up = [] {
    caf::core::init_global_meta_objects();
    caf::init_global_meta_objects<caf::id_block::kvferry>();
    return true;
}();

} // namespace kvferry::testing
