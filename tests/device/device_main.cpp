// SPDX-License-Identifier: Apache-2.0
// Entry of the device tests: without a device they say so, and ctest counts them as skipped.
#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/device/device_setup.hpp"

#include <doctest/doctest.h>

#include <cstdio>

int main(int argument_count, char** arguments) {
    const auto& found = kvferry::testing::devices();
    doctest::Context context(argument_count, arguments);
    if (!found.available) // the conformance tests of copy actors do not check for a device
        context.addFilter("test-case-exclude", "copy:*");
    const int failed = context.run();
    if (failed != 0 || found.available)
        return failed;
    std::printf("skipped: no device (%s)\n", found.reason.c_str());
    return 77; // SKIP_RETURN_CODE
}
