// SPDX-License-Identifier: Apache-2.0
// One copy for several ranks whose pools lie on devices: it lands in one of them and is handed on
// by the device. Ranks name two machines.
#include "tests/device/device_setup.hpp"
#include "tests/processes/end_to_end.hpp"

namespace kvferry::testing {

namespace {

/// One latent per token, the same on every rank: 64 KiB a block.
const std::string mla = "layers=8,head_dim=256,element_bytes=2,tokens_per_block=16,kind=mla";
constexpr unsigned blocks = 64;

instance_processes::options on(const std::string& machine, const std::string& name, unsigned tp) {
    return {
        name,
        tp,
        1,
        mla,
        2 * blocks,
        {"--machine", machine, "--wire", "tcp", "--relay", "--memory", "cuda", "--device", "0"}};
}

} // namespace

TEST_CASE("relay on devices: what lands in a device's pool is handed on by the device, and the "
          "network carries it once") {
    KVFERRY_NEEDS_DEVICES(1);
    instance_processes context{on("a", "context", 1)};
    instance_processes generation{on("b", "generation", 3)};
    for (std::uint64_t rid = 1; rid <= 4; ++rid) {
        CAPTURE(rid);
        const auto x = whole_blocks(rid, blocks, 16, rid % 2 == 0 ? blocks : 0);
        receive(generation, context.endpoint, x);
        send(context, x);
        std::uint64_t far = 0;
        for (auto& rank : generation) {
            const auto outcome = rank->outcome(rid);
            INFO(outcome.dump());
            CHECK(outcome.at("error").is_null());
            for (const auto& peer : outcome.at("peers"))
                if (!peer.contains("sibling"))
                    far += peer.at("bytes").get<std::uint64_t>();
                else
                    CHECK(peer.at("route").get<std::string>().starts_with("mapped by cuda:0"));
            rank->released(rid);
            expect_content(*rank, x);
        }
        CHECK(far == std::uint64_t{blocks} * 8 * 256 * 2 * 16);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
