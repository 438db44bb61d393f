// SPDX-License-Identifier: Apache-2.0
// A socket whose ends prove themselves to each other as the rank's security wants it.
#pragma once

#include "transport/secure/security.hpp"
#include "transport/tcp/byte_stream.hpp"

#include <memory>

namespace kvferry {

/// The kernel may encrypt only where protection is not dropped:
/// secure_stream::let_kernel_encrypt().
std::unique_ptr<byte_stream> make_secured_stream(unique_fd, stream_role, security_ptr,
                                                 bool may_kernel_encrypt);

} // namespace kvferry
