// SPDX-License-Identifier: Apache-2.0
// What all fuzzers share: their one entry, and what must hold.
#pragma once

#include "tests/support/caf_setup.hpp"

#include <caf/byte.hpp>
#include <caf/span.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

/// Returns 0 for any input; ends the process when a check fails.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes);

namespace kvferry::fuzz {

/// Ends the process, so that the input is kept as a finding.
inline void require(bool holds, const char* what) {
    if (!holds) {
        std::fprintf(stderr, "this must hold: %s\n", what);
        std::abort();
    }
}

inline caf::span<const caf::byte> view(const std::uint8_t* data, std::size_t bytes) {
    return {reinterpret_cast<const caf::byte*>(data), bytes};
}

/// Takes values from the front of an input; zero when it is used up.
class reader {
public:
    reader(const std::uint8_t* data, std::size_t bytes) : at_(data), left_(bytes) {}

    bool empty() const { return left_ == 0; }

    template <class Number>
    Number number() {
        std::uint64_t result = 0;
        for (std::size_t i = 0; i < sizeof(Number) && left_ > 0; ++i, --left_)
            result = result << 8 | *at_++;
        return static_cast<Number>(result);
    }

    /// `count` bytes, or fewer when the input is shorter.
    caf::span<const caf::byte> bytes(std::size_t count) {
        if (count > left_)
            count = left_;
        auto result = view(at_, count);
        at_ += count;
        left_ -= count;
        return result;
    }

private:
    const std::uint8_t* at_;
    std::size_t left_;
};

} // namespace kvferry::fuzz
