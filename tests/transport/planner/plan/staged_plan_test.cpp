// SPDX-License-Identifier: Apache-2.0
// Pieces of a plan through a small staging memory land as the plan itself would.
#include "tests/transport/copy/copy_conformance.hpp"
#include "transport/copy/copy_io.hpp"
#include "transport/planner/plan/staged_plan.hpp"

#include <array>

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("staged_plan: random plans land byte for byte through pieces of any size") {
    for (std::uint32_t seed = 1; seed <= 300; ++seed) {
        CAPTURE(seed);
        const std::uint64_t piece_bytes = std::array{16, 64, 4096, 1 << 20}[seed % 4];
        const auto sample = random_plans{seed}.next();
        const auto source_content = random_bytes(sample.source_bytes, seed);
        const auto target_content = random_bytes(sample.target_bytes, seed + 1);
        host_memory source{sample.source_bytes}, target{sample.target_bytes},
            staging{piece_bytes + 1};
        source.write(source_content);
        target.write(target_content);
        staged_cursor cursor{sample.job(source.address(), target.address()), piece_bytes};
        std::uint64_t bytes = 0;
        while (auto piece = cursor.next(staging.address())) {
            CHECK(piece->bytes <= piece_bytes);
            CHECK(piece->gather.plan->bytes == piece->bytes);
            CHECK(piece->put.plan->bytes == piece->bytes);
            copy_now(piece->gather);
            copy_now(piece->put);
            bytes += piece->bytes;
        }
        CHECK(bytes == sample.plan->bytes);
        CHECK((target.read() == sample.applied(source_content, target_content)));
    }
}

TEST_CASE("staged_plan: pieces are filled with as many pairs of slots as fit") {
    const auto sample = shuffled_fragments(100, 1000); // 1008 bytes each in staging memory
    staged_cursor cursor{sample.job(0, 0), 10240};
    std::vector<std::uint64_t> sizes;
    while (auto piece = cursor.next(0))
        sizes.push_back(piece->bytes);
    CHECK(sizes == std::vector<std::uint64_t>(10, 10000));
}
