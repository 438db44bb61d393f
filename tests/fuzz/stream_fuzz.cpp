// SPDX-License-Identifier: Apache-2.0
// What a stranger says on a connection, secured or plain, from the first byte: an input is
// [kind: 1 byte] and any number of [length: 2 bytes][bytes].
#include "tests/fuzz/fuzz.hpp"
#include "transport/secure/security.hpp"

#include <array>

using namespace kvferry;

namespace {

const security& of_kind(bool secured) {
    static const auto with_secret = [] {
        auto made = security::make({.secret = "0123456789abcdef0123456789abcdef"});
        return made ? *made : security::none(); // a build without OpenSSL has the plain kind alone
    }();
    static const auto plain = security::none();
    return secured ? *with_secret : *plain;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    fuzz::reader input{data, bytes};
    const auto kind = input.number<std::uint8_t>();
    const auto& how = of_kind(kind & 1);
    stream_buffers ends;
    const auto stream =
        how.open(kind & 2 ? stream_role::dialler : stream_role::acceptor, stream_carrier{ends});
    std::size_t heard = 0;
    std::size_t said = 0;
    while (!input.empty()) {
        const auto words = input.bytes(input.number<std::uint16_t>());
        heard += words.size();
        ends.arrived.insert(ends.arrived.end(), words.begin(), words.end());
        auto wants = stream->handshake();
        if (!wants)
            break;
        fuzz::require(!how.needs_proof() || *wants != stream_want::nothing,
                      "nobody who has no secret proves one");
        if (*wants == stream_want::nothing) {
            std::array<caf::byte, 512> piece;
            const iovec place{piece.data(), piece.size()};
            auto moved = stream->read({&place, 1});
            if (!moved)
                break;
            said += moved->bytes;
        }
        fuzz::require(said <= heard, "no more is read than has come");
        fuzz::require(ends.leaving.size() <= 64 << 10, "a stranger makes nobody say much");
    }
    return 0;
}
