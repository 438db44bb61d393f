// SPDX-License-Identifier: Apache-2.0
// Writes what this release puts on the wire: the frozen bytes of its protocol version.
#include "messages/init_types.hpp"
#include "messages/wire/codec.hpp"
#include "messages/wire/rank_packing.hpp"
#include "tests/messages/wire/field_list.hpp"
#include "tests/messages/wire/random_message.hpp"

#include <cstdio>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

void write(const std::string& name, const byte_buffer& bytes, const field_list::lines& fields) {
    std::printf("\nvector %s\nbytes ", name.c_str());
    for (auto x : bytes)
        std::printf("%02x", caf::to_integer<unsigned>(x));
    std::printf("\n");
    for (const auto& [path, value] : fields)
        std::printf("%s %s\n", path.c_str(), value.c_str());
}

} // namespace

int main() {
    init_message_types();
    constexpr std::size_t bytes_max = limits{}.message_bytes_max;
    std::mt19937_64 source{protocol_version};
    std::printf("# What a rank of protocol %u writes, and what it means. Frozen: never edit.\n",
                unsigned{protocol_version});
    for (std::size_t index = 0; index < message_types; ++index) {
        auto message = random_message(index, source);
        const auto frame = encode(message, bytes_max);
        if (!frame)
            return 1;
        write(std::string{name_of(message)}, *frame,
              std::visit([](const auto& x) { return field_list::of(x); }, message));
    }
    std::vector<rank_info> ranks(3);
    for (auto& each : ranks)
        if (!random_filler{source}.apply(each))
            return 1;
    const auto packed = pack_ranks(ranks, bytes_max);
    if (!packed)
        return 1;
    write("packed_ranks", *packed, field_list::of(ranks));
    return 0;
}
