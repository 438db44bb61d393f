// SPDX-License-Identifier: Apache-2.0
// Failures of system calls: their conversion to errors, and a way for tests to make one fail.
#pragma once

#include "messages/errors.hpp"

#include <string_view>

namespace kvferry {

/// The error of a call that has just set errno: "call: system's reason; advice".
caf::error system_error(errc code, std::string_view call, std::string_view advice = {});

/// The same for a saved errno.
caf::error system_error(errc code, std::string_view call, int number, std::string_view advice = {});

/// While it lives, every call with this name fails with the given errno. One at a time in a
/// process; for tests that prove that a half-made object leaves nothing behind.
class failing_call {
public:
    failing_call(const char* call, int number) noexcept;
    failing_call(const failing_call&) = delete;
    failing_call& operator=(const failing_call&) = delete;
    ~failing_call();
};

/// Asked before each call of that name. True, with errno set, when a test wants the call to fail.
bool made_to_fail(std::string_view call) noexcept;

} // namespace kvferry
