// SPDX-License-Identifier: Apache-2.0
// A stream without a secret: what is written is what is sent.
#pragma once

#include "transport/secure/secure_stream.hpp"
#include "transport/secure/stream_carrier.hpp"

namespace kvferry {

secure_stream_ptr make_plain_stream(stream_role, stream_carrier);

} // namespace kvferry
