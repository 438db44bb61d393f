// SPDX-License-Identifier: Apache-2.0
// Texts of errno values, and the one call that a test makes fail.
#include "transport/loop/system_call.hpp"

#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>

namespace kvferry {

namespace {

std::atomic<const char*> failing{nullptr};
std::atomic<int> failing_number{0};

} // namespace

caf::error system_error(errc code, std::string_view call, int number, std::string_view advice) {
    auto text = std::string{call} + ": " + std::generic_category().message(number);
    if (!advice.empty())
        text.append("; ").append(advice);
    return make_error(code, std::move(text));
}

caf::error system_error(errc code, std::string_view call, std::string_view advice) {
    return system_error(code, call, errno, advice);
}

failing_call::failing_call(const char* call, int number) noexcept {
    failing_number = number;
    failing = call;
}

failing_call::~failing_call() {
    failing = nullptr;
}

bool made_to_fail(std::string_view call) noexcept {
    const auto* name = failing.load();
    if (!name || call != name)
        return false;
    errno = failing_number;
    return true;
}

} // namespace kvferry
