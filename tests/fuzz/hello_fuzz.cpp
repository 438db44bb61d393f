// SPDX-License-Identifier: Apache-2.0
// Packets of a same-host connection, one after the other: an input is any number of
// [descriptors: 1 byte][length: 2 bytes][packet].
#include "tests/fuzz/fuzz.hpp"
#include "transport/host_link/host_link_hello.hpp"

using namespace kvferry;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    constexpr std::size_t regions_max = 64;
    fuzz::reader input{data, bytes};
    hello_assembly assembly{regions_max};
    while (!input.empty()) {
        const auto descriptors = input.number<std::uint8_t>();
        const auto length = input.number<std::uint16_t>();
        auto packet = decode_host_link_packet(input.bytes(length), descriptors);
        if (!packet)
            continue;
        const auto again = decode_host_link_packet(encode(*packet), descriptors);
        fuzz::require(again && *again == *packet, "what was encoded decodes to the same");
        auto* hello = std::get_if<hello_packet>(&*packet);
        if (!hello || assembly.complete())
            continue;
        if (assembly.add(std::move(*hello), std::vector<unique_fd>(descriptors)))
            return 0; // at this point the connection would be closed
        fuzz::require(assembly.regions().size() <= regions_max, "no more regions than allowed");
    }
    return 0;
}
