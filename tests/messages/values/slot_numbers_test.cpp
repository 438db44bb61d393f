// SPDX-License-Identifier: Apache-2.0
// Slot numbers in one step are the bytes that CAF writes one by one, and as hard to mislead.
#include "messages/values/kv_slice.hpp"
#include "messages/values/slot_numbers.hpp"

#include <doctest/doctest.h>

#include <random>

using namespace kvferry;

namespace {

std::vector<std::int32_t> some_numbers(std::size_t count) {
    std::mt19937 random{static_cast<unsigned>(count) + 1};
    std::vector<std::int32_t> result(count);
    for (auto& number : result)
        number = static_cast<std::int32_t>(random());
    return result;
}

} // namespace

TEST_CASE("slot_numbers: the bytes are those of a plain list, and come back") {
    for (std::size_t count : {0, 1, 2, 127, 128, 129, 16383, 16384, 100000}) {
        CAPTURE(count);
        const block_list list{7, some_numbers(count)};
        caf::byte_buffer plain, packed;
        caf::binary_serializer one{nullptr, plain}, other{nullptr, packed};
        REQUIRE((one.apply(list.first_block) && one.apply(list.slots)));
        REQUIRE(other.apply(list));
        CHECK(plain == packed);
        caf::binary_deserializer source{nullptr, packed};
        block_list back;
        REQUIRE(source.apply(back));
        CHECK(back == list);
        CHECK(source.remaining() == 0);
    }
}

TEST_CASE("slot_numbers: a length that the input cannot hold is refused, and nothing allocated") {
    caf::byte_buffer packed;
    caf::binary_serializer sink{nullptr, packed};
    REQUIRE(write_numbers(sink, some_numbers(1000)));
    for (std::size_t bytes = 0; bytes < packed.size(); ++bytes) {
        caf::binary_deserializer source{nullptr, packed.data(), bytes};
        std::vector<std::int32_t> numbers;
        CHECK_FALSE(read_numbers(source, numbers));
        CHECK(numbers.capacity() == 0);
    }
}
