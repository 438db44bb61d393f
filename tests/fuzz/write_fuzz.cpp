// SPDX-License-Identifier: Apache-2.0
// Puts by message, as they come off the wire: an input is a series of heads with the bytes beside
// them. Nothing may be written outside of the two regions that are allowed.
#include "tests/fuzz/fuzz.hpp"
#include "transport/inbound_writes.hpp"

#include <algorithm>
#include <array>
#include <vector>

using namespace kvferry;

namespace {

constexpr std::uint64_t secret = 7;
constexpr std::size_t region_bytes = 256;
constexpr std::byte untouched{0xa5};

/// Regions between guards, so that a write to the neighbour is found, too.
struct memory {
    std::array<std::byte, 5 * region_bytes> bytes;
    memory() { bytes.fill(untouched); }
    std::byte* region(std::size_t index) { return bytes.data() + (1 + 2 * index) * region_bytes; }
    bool guards_intact() const {
        for (std::size_t guard = 0; guard < 3; ++guard) {
            const auto* from = bytes.data() + 2 * guard * region_bytes;
            if (!std::all_of(from, from + region_bytes, [](std::byte x) { return x == untouched; }))
                return false;
        }
        return true;
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    memory target;
    inbound_writes writes{16};
    writes.allow({1}, target.region(0), region_bytes, secret);
    writes.allow({2}, target.region(1), region_bytes, secret);
    fuzz::reader input{data, bytes};
    while (!input.empty()) {
        const auto what = input.number<std::uint8_t>();
        const incarnation sender{std::uint64_t{what} >> 6};
        const auto put = input.number<std::uint8_t>();
        if (what % 8 < 5) {
            write_head head{sender.value, put, input.number<std::uint8_t>(), secret, 0};
            // An address near a region or anywhere, by choice of the input.
            head.secret += what % 8 == 4;
            head.address =
                input.number<std::int16_t>() + reinterpret_cast<std::uint64_t>(target.bytes.data());
            if (what % 8 == 3)
                head.address = input.number<std::uint64_t>();
            const auto content = input.bytes(input.number<std::uint16_t>());
            writes.place(head, content.data(), content.size());
        } else if (what % 8 == 5) {
            writes.end({sender.value, put, input.number<std::uint64_t>()}, byte_buffer(1));
        } else if (what % 8 == 6) {
            writes.fence(sender);
        } else {
            (void)writes.forbid({put});
        }
        fuzz::require(writes.puts() <= 16, "puts are bounded");
        (void)writes.take_finished();
    }
    fuzz::require(target.guards_intact(), "nothing is written outside of a region");
    return 0;
}
