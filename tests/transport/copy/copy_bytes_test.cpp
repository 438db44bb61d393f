// SPDX-License-Identifier: Apache-2.0
// copy_bytes: copies the same bytes as memcpy and no byte beside them, at every alignment.
#include "transport/copy/copy_bytes.hpp"

#include <doctest/doctest.h>

#include <array>
#include <vector>

using namespace kvferry;

TEST_CASE("copy_past_cache, copy_through_cache: exactly these bytes, wherever they begin and "
          "however many there are") {
    std::vector<unsigned char> source(8192);
    for (std::size_t at = 0; at < source.size(); ++at)
        source[at] = static_cast<unsigned char>(1 + at % 251);
    for (std::size_t bytes :
         {0, 1, 15, 16, 63, 64, 65, 127, 128, 1000, 2047, 2048, 2049, 4096, 5000})
        for (std::size_t from : {0, 1, 16, 33})
            for (std::size_t to : {0, 1, 8, 16, 48, 63, 64}) {
                CAPTURE(bytes);
                CAPTURE(from);
                CAPTURE(to);
                std::vector<unsigned char> target(6000), wanted(6000);
                for (std::size_t at = 0; at < bytes; ++at)
                    wanted[to + at] = source[from + at];
                const auto* next = from % 2 ? nullptr : source.data();
                copy_past_cache(target.data() + to, source.data() + from, bytes, next);
                finish_past_cache();
                CHECK(target == wanted);
                std::vector<unsigned char> cached(6000);
                copy_through_cache(cached.data() + to, source.data() + from, bytes, next);
                CHECK(cached == wanted);
            }
}
