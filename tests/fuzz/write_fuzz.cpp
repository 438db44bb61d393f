// SPDX-License-Identifier: Apache-2.0
// Puts by message, as they come off the wire: an input is a series of heads with the bytes beside
// them. Nothing may be written outside of the regions that are allowed, or read outside of what the
// writer has lent. One region lies on a device, played here.
#include "tests/fuzz/fuzz.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/fabric/inbound_writes.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <vector>

using namespace kvferry;

namespace {

constexpr std::uint64_t secret = 7;
constexpr std::size_t region_bytes = 256;
constexpr std::byte untouched{0xa5};
constexpr std::size_t chunk_bytes = 32;
constexpr std::uint64_t on_device = 3;

/// Regions between guards, so that a write to the neighbour is found, too.
struct memory {
    std::array<std::byte, 7 * region_bytes> bytes;
    memory() { bytes.fill(untouched); }
    std::byte* region(std::size_t index) { return bytes.data() + (1 + 2 * index) * region_bytes; }
    bool guards_intact() const {
        for (std::size_t guard = 0; guard < 4; ++guard) {
            const auto* from = bytes.data() + 2 * guard * region_bytes;
            if (!std::all_of(from, from + region_bytes, [](std::byte x) { return x == untouched; }))
                return false;
        }
        return true;
    }
};

/// The device. It does at once whatever it is asked for.
void serve(inbound_writes& writes, std::span<std::byte> lent, bool maps) {
    auto& staging = writes.staging();
    for (const auto& offer : staging.take_offers())
        staging.answer_offer(
            offer, maps ? std::optional{readable_memory{lent.data(), lent.size(), nullptr}}
                        : std::nullopt);
    for (auto memory : staging.take_unpinned())
        staging.pinned(memory.data(), {});
    for (const auto& full : staging.take_scatters()) {
        for (const auto& hit : full.job.plan->parts)
            fuzz::require(!hit.slots.empty(), "a scatter writes something");
        copy_now(full.job);
        writes.scattered(full.number, transfer_done{});
    }
    (void)writes.take_granted();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    memory target;
    alignas(16) std::array<std::byte, 4 * chunk_bytes> staging{};
    std::vector<std::byte> lent(region_bytes); // on the heap: a sanitizer sees reads beyond it
    inbound_writes writes{16, chunk_bytes};
    writes.allow({on_device}, target.region(2), region_bytes, secret, staging);
    writes.allow({1}, target.region(0), region_bytes, secret);
    writes.allow({2}, target.region(1), region_bytes, secret);
    fuzz::reader input{data, bytes};
    while (!input.empty()) {
        const auto what = input.number<std::uint8_t>();
        const incarnation sender{std::uint64_t{what} >> 6};
        const auto put = input.number<std::uint8_t>();
        if (what % 32 == 31) {
            // A bundle's head as the input says it, and its bytes read into place or placed.
            const auto head_bytes = input.bytes(input.number<std::uint16_t>());
            const auto content = input.bytes(input.number<std::uint16_t>());
            const auto* from = reinterpret_cast<const caf::byte*>(head_bytes.data());
            auto bundle = parse_bundle({from, head_bytes.size()}, content.size());
            if (!bundle)
                continue;
            for (auto& x : bundle->stretches) // as above: near a region
                x.address = x.address % (2 * target.bytes.size())
                            + reinterpret_cast<std::uint64_t>(target.bytes.data())
                            - target.bytes.size() / 2;
            for (auto& x : bundle->keys)
                x = {x.region % 5, secret + x.secret % 2};
            auto where = writes.land(*bundle);
            if (put % 2 == 0 || where.how == landing::kind::whole) {
                writes.place(*bundle,
                             {reinterpret_cast<const caf::byte*>(content.data()), content.size()});
            } else {
                for (const auto& x : where.places)
                    std::fill(x.begin(), x.end(), std::byte{1});
                writes.landed(std::move(where));
            }
        } else if (what % 8 < 5) {
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
        } else if (put >= 128) {
            (void)writes.forbid(region_id{put % 128u});
        } else if (put >= 96) {
            const auto source = input.number<std::uint8_t>();
            writes.ask({sender.value, put, on_device, secret, input.number<std::uint16_t>(),
                        source < 128 ? source : not_shared},
                       byte_buffer(1));
        } else {
            std::vector<referred_stretch> stretches(input.number<std::uint8_t>() % 8);
            for (auto& x : stretches)
                x = {input.number<std::int16_t>()
                         + reinterpret_cast<std::uint64_t>(target.bytes.data()),
                     input.number<std::uint16_t>(), input.number<std::uint8_t>()};
            const auto* from = reinterpret_cast<const caf::byte*>(stretches.data());
            writes.refer({sender.value, put + 64u, on_device, secret},
                         {from, stretches.size() * sizeof(referred_stretch)});
        }
        serve(writes, lent, put % 2 == 0);
        fuzz::require(writes.puts() <= 16, "puts are bounded");
        (void)writes.take_finished();
    }
    fuzz::require(target.guards_intact(), "nothing is written outside of a region");
    return 0;
}
