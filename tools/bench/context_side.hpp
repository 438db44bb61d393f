// SPDX-License-Identifier: Apache-2.0
// The child of the benchmark: offers transfers, and runs the limit over the same pieces.
#pragma once

namespace kvferry::bench {

/// Answers questions on socket `fd` until its other end closes. Returns the exit status.
int run_context_side(int fd);

} // namespace kvferry::bench
