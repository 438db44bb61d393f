// SPDX-License-Identifier: Apache-2.0
// What I/O operations are called in traces. Recordings contain the names.
#pragma once

namespace kvferry::trace {

inline constexpr const char* mapped_copy = "copy (mapped)";
/// By the session itself: it was small.
inline constexpr const char* inline_copy = "copy (mapped, inline)";
inline constexpr const char* device_copy = "copy on the device (mapped)";
inline constexpr const char* direct_put = "put (direct)";
/// Of pieces, each of which is a copy and a put.
inline constexpr const char* staged_put = "put (staged)";

} // namespace kvferry::trace
