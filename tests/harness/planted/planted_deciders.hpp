// SPDX-License-Identifier: Apache-2.0
// The bug that is planted, as who is asked in place of a value.
#pragma once

#include "actors/decisions/deciders.hpp"
#include "messages/limits.hpp"

namespace kvferry::harness {

/// Empty deciders when no bug, or one of another kind, is planted.
deciders_ptr planted_deciders();

/// What a rank-info server is started with.
limits planted_server_limits(limits);

} // namespace kvferry::harness
