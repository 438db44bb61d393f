// SPDX-License-Identifier: Apache-2.0
// Frames between ranks, including those of the info exchange. decode() returns either an error or a
// message that stays the same when it is encoded and decoded again.
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
    const auto again = encode(*message, 2 * bytes_max); // defaults of fields that were not there
    fuzz::require(static_cast<bool>(again), "what was decoded can be encoded");
    const auto second = decode(*again, 2 * bytes_max);
    fuzz::require(second && *encode(*second, 2 * bytes_max) == *again,
                  "what was encoded decodes to the same");
    return 0;
}
