// SPDX-License-Identifier: Apache-2.0
// Failures of system calls: their conversion to errors, and a way for tests to make one fail.
#pragma once

#include "messages/errors.hpp"

#include <string_view>

namespace kvferry {

/// The error of a call that has just set errno: "call: system's reason; advice".
caf::error system_error(errc code, std::string_view call, std::string_view advice = {});

/// The same for an errno that was kept.
caf::error system_error(errc code, std::string_view call, int number, std::string_view advice = {});

/// While it lives, every call that asks with the same name fails with the given errno. One at a
/// time in a process; for tests that prove that a half-made object leaves nothing behind.
class failing_call {
public:
    failing_call(const char* call, int number) noexcept;
    failing_call(const failing_call&) = delete;
    failing_call& operator=(const failing_call&) = delete;
    ~failing_call();
};

/// Asked before a call of that name; when a test wants it to fail, sets errno and says so.
bool made_to_fail(std::string_view call) noexcept;

} // namespace kvferry
