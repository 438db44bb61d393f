// SPDX-License-Identifier: Apache-2.0
// Frames between ranks, those of the info exchange among them: decode() answers a message, which
// survives being sent again, or an error.
#include "messages/wire/codec.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace kvferry;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    constexpr std::size_t bytes_max = std::size_t{1} << 20;
    const auto frame = fuzz::view(data, bytes);
    const auto message = decode(frame, bytes_max);
    if (!message)
        return 0;
    fuzz::require(static_cast<bool>(peek(frame)), "what decodes has a prefix");
    const auto again = encode(*message, bytes_max);
    fuzz::require(static_cast<bool>(again), "what was decoded can be encoded");
    const auto second = decode(*again, bytes_max);
    fuzz::require(second && *encode(*second, bytes_max) == *again,
                  "what was encoded decodes to the same");
    return 0;
}
