// SPDX-License-Identifier: Apache-2.0
// What a peer may have put into a ring of shared memory, its address and its first packet. An
// input is [kind: 1 byte], then an address, a hello, or [the writer's number: 8 bytes][the ring].
#include "tests/fuzz/fuzz.hpp"
#include "transport/shm/byte_ring.hpp"
#include "transport/shm/shm_address.hpp"

#include <cstring>
#include <optional>

using namespace kvferry;

namespace {

void read_ring(std::uint64_t head, byte_view bytes) {
    auto memory = ring_memory::make();
    fuzz::require(static_cast<bool>(memory), "there is memory for a ring");
    memory->control().head.store(head);
    if (bytes.size() > ring_bytes)
        bytes = bytes.subspan(0, ring_bytes);
    if (!bytes.empty())
        std::memcpy(memory->at(0), bytes.data(), bytes.size());
    constexpr std::size_t message_bytes_max = 4096;
    ring_reader reader{std::move(*memory)};
    message_assembly assembly{message_bytes_max};
    for (std::uint64_t taken = 0; taken < head;) {
        auto record = reader.peek();
        if (!record)
            return; // at this point the connection would be closed
        fuzz::require((*record).has_value(), "there is something until all is taken");
        auto message = assembly.add(**record);
        if (!message)
            return;
        if (*message) {
            fuzz::require((*message)->payload.size() <= message_bytes_max, "messages are bounded");
            fuzz::require((*message)->head.size() <= head_bytes_max, "heads are bounded");
            std::uint64_t sum = 0; // touches every byte
            for (auto byte : (*message)->payload)
                sum += caf::to_integer<std::uint64_t>(byte);
            fuzz::require(sum < ~std::uint64_t{0}, "bytes can be read");
        }
        taken += (*record)->size();
        reader.take(**record);
    }
    auto record = reader.peek();
    fuzz::require(record && !*record, "nothing is left");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    fuzz::reader input{data, bytes};
    const auto kind = input.number<std::uint8_t>() % 3;
    if (kind == 0) {
        const auto text = input.bytes(bytes);
        if (auto address = parse_shm_address(text))
            fuzz::require(pack(*address) == byte_buffer{text.begin(), text.end()},
                          "an address has one form");
    } else if (kind == 1) {
        (void)parse_shm_hello(input.bytes(bytes));
    } else {
        const auto head = input.number<std::uint64_t>();
        read_ring(head, input.bytes(bytes));
    }
    return 0;
}
