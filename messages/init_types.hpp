// SPDX-License-Identifier: Apache-2.0
// CAF's table of types: without it CAF cannot make a message, and so no error with a text.
#pragma once

namespace kvferry {

/// Enters CAF's own types and all of kvferry's into CAF's table. Thread-safe; the first call does
/// the work. make_error calls it, so errors can be made before there is an actor system.
void init_message_types();

} // namespace kvferry
