// SPDX-License-Identifier: Apache-2.0
// Frames bent at random: decode answers a message or a named error, in bounded memory.
#include "messages/wire/codec.hpp"
#include "tests/messages/wire/random_message.hpp"
#include "tests/support/allocation_counter.hpp"
#include "tests/support/caf_setup.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

constexpr std::size_t bytes_max = std::size_t{64} << 10;

class mutator {
public:
    explicit mutator(std::uint64_t seed) : source_(seed) {
        for (std::size_t index = 0; index < message_types; ++index)
            add(random_message(index, source_));
        // Hand-made nasties: nothing, a bare prefix, the largest frame, deep and wide values.
        corpus_.emplace_back();
        corpus_.emplace_back(corpus_.front().begin(), corpus_.front().begin() + frame_prefix_bytes);
        corpus_.emplace_back(bytes_max + 1, caf::byte{0xff});
        request_data wide;
        wide.receivers.assign(1000, rank_id{~std::uint32_t{0}});
        add(wide);
        instance_info many;
        many.ranks.resize(64);
        for (auto& rank : many.ranks)
            rank.pages.emplace().groups.resize(16);
        add(many);
    }

    byte_buffer next() {
        auto frame = pick();
        for (auto steps = 1 + source_() % 4; steps > 0; --steps)
            bend(frame);
        return frame;
    }

private:
    void add(wire_message message) {
        for (const auto version : {protocol_version, oldest_protocol_version}) {
            header_of(message).version = version;
            auto frame = encode(message, bytes_max);
            REQUIRE(frame);
            corpus_.push_back(std::move(*frame));
        }
    }

    const byte_buffer& pick() { return corpus_[source_() % corpus_.size()]; }

    auto place(byte_buffer& frame) {
        return frame.begin() + static_cast<std::ptrdiff_t>(source_() % frame.size());
    }

    void bend(byte_buffer& frame) {
        if (frame.empty())
            return;
        switch (source_() % 7) {
        case 0: // one bit
            *place(frame) ^= static_cast<caf::byte>(1u << source_() % 8);
            break;
        case 1: // one byte
            *place(frame) = static_cast<caf::byte>(source_());
            break;
        case 2: // cut at the end
            frame.erase(place(frame), frame.end());
            break;
        case 3: { // cut out
            auto from = place(frame);
            frame.erase(from,
                        from
                            + static_cast<std::ptrdiff_t>(
                                source_() % static_cast<std::size_t>(1 + frame.end() - from)));
            break;
        }
        case 4: { // the rest of another frame
            auto other = pick();
            frame.erase(place(frame), frame.end());
            if (!other.empty())
                frame.insert(frame.end(), place(other), other.end());
            break;
        }
        case 5: { // a huge length where a length may stand
            static constexpr unsigned char huge[] = {0xff, 0xff, 0xff, 0xff, 0x0f};
            auto at = place(frame);
            for (auto x : huge)
                if (at != frame.end())
                    *at++ = static_cast<caf::byte>(x);
            break;
        }
        default: { // bytes put in, so that everything after them shifts
            auto at = place(frame);
            frame.insert(at, 1 + source_() % 9, static_cast<caf::byte>(source_()));
            break;
        }
        }
    }

    std::mt19937_64 source_;
    std::vector<byte_buffer> corpus_;
};

} // namespace

TEST_CASE("codec: bent frames give a message or a named error, in bounded memory") {
    const auto seed = random_seed(991);
    CAPTURE(seed);
    mutator frames{seed};
    std::size_t accepted = 0;
    std::size_t refused = 0;
    for (int round = 0; round < 20000; ++round) {
        CAPTURE(round);
        const auto frame = frames.next();
        std::size_t peak = 0;
        auto result = [&] {
            allocation_scope counting;
            auto decoded = decode(frame, bytes_max);
            peak = counting.peak_bytes();
            return decoded;
        }();
        REQUIRE(peak <= frame.size() * decode_memory_factor + 4096);
        if (result) {
            ++accepted;
            auto again = encode(*result, bytes_max);
            REQUIRE(again);
            auto twice = decode(*again, bytes_max);
            REQUIRE(twice);
            auto thrice = encode(*twice, bytes_max);
            REQUIRE(thrice);
            REQUIRE(*again == *thrice);
        } else {
            ++refused;
            const auto code = code_of(result.error());
            const auto named = code == errc::malformed_message || code == errc::protocol_mismatch
                               || code == errc::limit_exceeded;
            REQUIRE_MESSAGE(named, describe(result.error()));
            REQUIRE_FALSE(text_of(result.error()).empty());
        }
    }
    // Both outcomes must occur; otherwise the mutations are too weak or too strong.
    CHECK(accepted > 500);
    CHECK(refused > 5000);
}
