// SPDX-License-Identifier: Apache-2.0
// Request ids of hosts that name their requests with text.
#pragma once

#include "messages/values/ids.hpp"

#include <string_view>

namespace kvferry {

/// The rid of a request with this name: the upper 63 bits of its XXH3_64bits, so both sides get the
/// same one without a word. Of a million live names, two share a rid once in 18 million times
/// (n^2 / 2^64); the second open is then refused as a duplicate, or its layouts and tokens differ.
rid rid_of(std::string_view request_name);

} // namespace kvferry
