// SPDX-License-Identifier: Apache-2.0
// Rank processes whose pools lie on devices: mapped over CUDA IPC, and killed in the middle.
#include "tests/device/device_setup.hpp"
#include "tests/processes/end_to_end.hpp"

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

/// 1 GiB: with one multiprocessor per lane, a copy takes long enough to be interrupted.
constexpr unsigned device_blocks = 2048;
constexpr unsigned spare_slots = 8;

std::vector<std::string> on_device(std::size_t device) {
    return {"--memory", "cuda", "--device", std::to_string(device), "--multiprocessors", "1"};
}

const std::string mapped = "mapped by cuda:0";
const std::string staged = "staged by cuda:0 into device memory: asked for";
/// The same over the fabric, as between machines.
const std::string sent = staged + ", sent";

/// A writer on the first device, a receiver on the last one.
struct two_ranks {
    explicit two_ranks(const std::string& route = mapped)
        : context({"context", 1, 1, large_model, device_blocks + spare_slots, writer(route)}),
          generation({"generation", 1, 1, large_model, device_blocks + spare_slots,
                      on_device(devices().devices.size() - 1)}),
          route(route) {
        serve(1);
    }

    static std::vector<std::string> writer(const std::string& route) {
        auto result = on_device(0);
        if (route != mapped)
            result.insert(result.end(), {"--route", "staged"});
        if (route == sent)
            result.push_back("--send-staged");
        return result;
    }

    void serve(std::uint64_t rid) {
        auto x = whole_blocks(rid, spare_slots, 32, device_blocks);
        receive(generation, context.endpoint, x);
        send(context, x);
        expect_success(context[0], x, route);
        expect_success(generation[0], x, route);
        expect_content(generation[0], x);
    }

    request begin(std::uint64_t rid) {
        auto x = whole_blocks(rid, device_blocks, 32);
        send(context, x);
        receive(generation, context.endpoint, x);
        await_block(generation[0], x, 0);
        return x;
    }

    instance_processes context;
    instance_processes generation;
    std::string route;
};

} // namespace

TEST_CASE("end to end on devices: kill -9 of the writer in the middle of its copy ends the "
          "receiver's session, and no byte changes after the release") {
    KVFERRY_NEEDS_DEVICES(1);
    for (const auto& route : {mapped, staged, sent}) {
        CAPTURE(route);
        two_ranks ranks{route};
        const auto x = ranks.begin(2);
        const auto killed = clock::now();
        ranks.context[0].kill();
        auto& receiver = ranks.generation[0];
        const auto outcome = receiver.outcome(x.rid);
        INFO(outcome.dump());
        CHECK(outcome.at("state") == "ERROR");
        CHECK(clock::now() - killed
              < 2s); // the driver closes its channels before the process is gone
        receiver.released(x.rid);
        const auto at_release = digest(receiver, x.generation_slots);
        const auto found = receiver.ask({{"do", "check"},
                                         {"slots", x.generation_slots},
                                         {"prompt_tokens", x.prompt_tokens},
                                         {"seed", x.seed()}});
        CHECK(found.at("ok") == false); // else it had been through before
        ranks.context.restart(0);
        ranks.serve(3);
        CHECK(digest(receiver, x.generation_slots) == at_release);
        expect_clean_stop(ranks.generation);
        expect_clean_stop(ranks.context);
    }
}

TEST_CASE("end to end on devices: kill -9 of the receiver in the middle of a copy into its memory "
          "ends the writer's session and leaves its device in order") {
    KVFERRY_NEEDS_DEVICES(1);
    for (const auto& route : {mapped, staged, sent}) {
        CAPTURE(route);
        two_ranks ranks{route};
        const auto x = ranks.begin(2);
        ranks.generation[0].kill();
        auto& writer = ranks.context[0];
        const auto outcome = writer.outcome(x.rid);
        INFO(outcome.dump());
        CHECK(outcome.at("state") == "ERROR");
        writer.released(x.rid);
        ranks.generation.restart(0);
        ranks.serve(3);
        expect_clean_stop(ranks.generation);
        expect_clean_stop(ranks.context);
    }
}

TEST_CASE("device: digests of what lies in a device's memory are compared on every route") {
    KVFERRY_NEEDS_DEVICES(1);
    for (const auto& route : {mapped, staged, sent}) {
        CAPTURE(route);
        two_ranks ranks{route};
        const auto x = whole_blocks(2, spare_slots, 32);
        receive(ranks.generation, ranks.context.endpoint, x);
        send(ranks.context, x);
        const auto outcome = ranks.generation[0].outcome(x.rid);
        INFO(outcome.dump());
        CHECK(outcome.at("state") == "KV_TRANSFERRED");
        for (const auto& peer : outcome.at("peers"))
            CHECK(peer.at("digests") == 1);
        expect_content(ranks.generation[0], x);
        expect_clean_stop(ranks.generation);
        expect_clean_stop(ranks.context);
    }
}

TEST_CASE(
    "end to end on devices: a cancel in the middle of a transfer that is staged on both sides "
    "ends it, and no byte changes after the release") {
    KVFERRY_NEEDS_DEVICES(1);
    for (const auto& route : {staged, sent}) {
        CAPTURE(route);
        two_ranks ranks{route};
        const auto x = ranks.begin(2);
        ranks.generation[0].ask({{"do", "cancel"}, {"rid", x.rid}});
        CHECK(ranks.generation[0].outcome(x.rid).at("state") == "CANCELLED");
        ranks.generation[0].released(x.rid);
        const auto at_release = digest(ranks.generation[0], x.generation_slots);
        ranks.context[0].released(x.rid);
        ranks.serve(3);
        CHECK(digest(ranks.generation[0], x.generation_slots) == at_release);
        expect_clean_stop(ranks.generation);
        expect_clean_stop(ranks.context);
    }
}

TEST_CASE("end to end on devices: host pools are staged into a device's memory, split by heads, "
          "byte for byte") {
    KVFERRY_NEEDS_DEVICES(1);
    instance_processes context({"context", 2, 1, large_model, 64, {"--route", "staged"}});
    instance_processes generation({"generation", 1, 1, large_model, 64, on_device(0)});
    for (std::uint64_t rid = 1; rid <= 3; ++rid) {
        const auto x = whole_blocks(rid, 64, 32);
        receive(generation, context.endpoint, x);
        send(context, x);
        for (auto& rank : context)
            expect_success(*rank, x, "staged into device memory: asked for");
        expect_success(generation[0], x, "staged into device memory: asked for");
        expect_content(generation[0], x);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE(
    "end to end on devices: a device's memory goes to a host pool in staged pieces; kill -9 of the "
    "writer in the middle ends the session, and no byte changes after the release") {
    KVFERRY_NEEDS_DEVICES(1);
    constexpr unsigned blocks = 512; // 256 MiB
    instance_processes context({"context", 1, 1, large_model, blocks, two_ranks::writer(staged)});
    instance_processes generation({"generation", 2, 1, large_model, blocks, {}});
    auto serve = [&](std::uint64_t rid) {
        const auto x = whole_blocks(rid, 32, 32);
        receive(generation, context.endpoint, x);
        send(context, x);
        expect_success(context[0], x, "staged by cuda:0: asked for");
        for (auto& rank : generation) {
            expect_success(*rank, x, "staged by cuda:0: asked for");
            expect_content(*rank, x);
        }
    };
    serve(1);
    const auto x = whole_blocks(2, blocks, 32);
    send(context, x);
    receive(generation, context.endpoint, x);
    await_block(generation[0], x, 0);
    context[0].kill();
    std::vector<std::uint64_t> at_release;
    for (auto& rank : generation) {
        CHECK(rank->outcome(x.rid).at("state") == "ERROR");
        rank->released(x.rid);
        at_release.push_back(digest(*rank, slots_from(32, blocks - 32)));
    }
    context.restart(0);
    serve(3);
    for (std::size_t rank = 0; rank < generation.size(); ++rank)
        CHECK(digest(generation[rank], slots_from(32, blocks - 32)) == at_release[rank]);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("end to end on devices: pools made of many chunks are mapped through their descriptors, "
          "written by one rank and read by another, byte for byte; also after one has restarted") {
    KVFERRY_NEEDS_DEVICES(1);
    const auto in_chunks = [](std::uint64_t bytes) {
        auto result = on_device(0);
        result.insert(result.end(), {"--device-chunk-bytes", std::to_string(bytes)});
        return result;
    };
    instance_processes context({"context", 1, 1, large_model, 64, in_chunks(2 << 20)});
    instance_processes generation({"generation", 2, 1, large_model, 64, in_chunks(6 << 20)});
    for (std::uint64_t rid = 1; rid <= 3; ++rid) {
        const auto x = whole_blocks(rid, 64, 32);
        receive(generation, context.endpoint, x);
        send(context, x);
        expect_success(context[0], x, mapped);
        for (auto& rank : generation) {
            expect_success(*rank, x, mapped);
            expect_content(*rank, x);
        }
        if (rid == 1)
            context.restart(0);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("end to end on devices: heads split over two ranks on two devices arrive byte for byte") {
    KVFERRY_NEEDS_DEVICES(2);
    instance_processes context({"context", 1, 1, large_model, 64, on_device(0)});
    instance_processes generation({"generation", 2, 1, large_model, 64, on_device(1)});
    const auto x = whole_blocks(1, 64, 32);
    receive(generation, context.endpoint, x);
    send(context, x);
    expect_success(context[0], x, "mapped by cuda:0");
    for (auto& rank : generation) {
        expect_success(*rank, x, "mapped by cuda:0");
        expect_content(*rank, x);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
