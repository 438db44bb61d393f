// SPDX-License-Identifier: Apache-2.0
// One process per rank, real UCX, the real same-host link: bytes arrive, refusals name their
// reason, deadlines hold, nothing is left behind.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/silent_listener.hpp"

#include <array>
#include <filesystem>
#include <set>

namespace kvferry::testing {

namespace {

std::set<std::string> shared_memory_files() {
    std::set<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator{"/dev/shm"})
        result.insert(entry.path().filename());
    return result;
}

struct split {
    const char* name;
    unsigned context_tp, context_pp, generation_tp, generation_pp;
};

} // namespace

TEST_CASE("end to end: bytes arrive exactly, however the two instances are split") {
    for (const std::string route : {"mapped", "direct"})
        for (const auto& how :
             {split{"tp1 to tp1", 1, 1, 1, 1}, split{"tp2 to tp1 pp2", 2, 1, 1, 2},
              split{"pp2 to tp2", 1, 2, 2, 1}}) {
            CAPTURE(route);
            const std::string split_name = how.name;
            CAPTURE(split_name);
            instance_processes context{
                {"context", how.context_tp, how.context_pp, small_model, 64, {"--route", route}}};
            instance_processes generation{
                {"generation", how.generation_tp, how.generation_pp, small_model, 64, {}}};
            // Scattered slots, a last block that is not full, several requests at a time.
            const std::vector<request> requests{
                {1, {0, 1, 2}, {5, 3, 9}, 41, false},
                {2, {8, 7, 6, 5}, {20, 21, 22, 23}, 64, true},
                {3, {10}, {0}, 1, true},
                {4, {40, 42, 44}, {60, 58, 56}, 48, false},
            };
            std::vector<int> others;
            for (int slot = 0; slot < 64; ++slot)
                if (std::none_of(requests.begin(), requests.end(), [slot](const request& x) {
                        return std::count(x.generation_slots.begin(), x.generation_slots.end(),
                                          slot);
                    }))
                    others.push_back(slot);
            std::vector<std::uint64_t> before;
            for (auto& rank : generation)
                before.push_back(digest(*rank, others));
            for (const auto& x : requests) {
                if (x.rid % 2 == 0) { // context first
                    send(context, x);
                    receive(generation, context.endpoint, x);
                } else {
                    receive(generation, context.endpoint, x);
                    send(context, x);
                }
            }
            for (const auto& x : requests) {
                CAPTURE(x.rid);
                for (auto& rank : context)
                    expect_success(*rank, x, route);
                for (auto& rank : generation) {
                    expect_success(*rank, x, route);
                    expect_content(*rank, x);
                }
            }
            for (std::size_t rank = 0; rank < generation.size(); ++rank)
                CHECK(digest(generation[rank], others) == before[rank]);
            expect_clean_stop(generation);
            expect_clean_stop(context);
        }
}

TEST_CASE("end to end: the aux record and the bytes that were moved are in the outcome") {
    instance_processes context{{"context", 2, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    const request x{77, {0, 1}, {2, 3}, 32, true};
    receive(generation, context.endpoint, x);
    send(context, x);
    const auto outcome = generation[0].outcome(x.rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == "FULLY_TRANSFERRED");
    CHECK(outcome.at("bytes") == 32 * small_bytes_per_token);
    for (const auto& peer : outcome.at("peers"))
        CHECK(peer.at("digests") == 1);
    CHECK(outcome.at("aux").at("first_tokens") == json::array({77}));
    CHECK(outcome.at("aux").at("draft_tokens") == json::array({4, 5}));
}

TEST_CASE("end to end: private memory goes the direct route, and the result says why") {
    instance_processes context{{"context", 1, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {"--memory", "private"}}};
    const request x{6, {0, 1}, {2, 3}, 32, false};
    send(context, x);
    receive(generation, context.endpoint, x);
    const auto outcome = generation[0].outcome(x.rid);
    CHECK(outcome.at("state") == "KV_TRANSFERRED");
    const std::string route = outcome.at("route");
    CHECK_MESSAGE(route.starts_with("direct: "), route);
    CHECK_MESSAGE(route.find("private") != route.npos, route);
    expect_content(generation[0], x);
}

TEST_CASE("end to end: memory on a device that peers cannot map is reached through staging memory, "
          "from and to host pools as well") {
    for (const auto& [source, target, route] :
         {std::array<std::string, 3>{"twin", "twin", "staged by cuda:0 into device memory: "},
          {"twin --send-staged", "twin", "staged by cuda:0 into device memory: "},
          {"shared", "twin", "staged into device memory: "},
          {"private", "twin", "staged into device memory: "},
          {"twin", "private", "staged by cuda:0: "}}) {
        CAPTURE(source);
        CAPTURE(target);
        std::vector<std::string> flags{"--memory", source.substr(0, source.find(' '))};
        if (auto more = source.find(' '); more != source.npos)
            flags.push_back(source.substr(more + 1));
        instance_processes context{{"context", 2, 1, small_model, 64, flags}};
        instance_processes generation{{"generation", 1, 2, small_model, 64, {"--memory", target}}};
        const std::vector<request> requests{
            {1, {0, 1, 2}, {5, 3, 9}, 41, false},
            {2, {8, 7, 6, 5}, {20, 21, 22, 23}, 64, true},
        };
        for (const auto& x : requests) {
            receive(generation, context.endpoint, x);
            send(context, x);
        }
        for (const auto& x : requests) {
            for (auto* instance : {&context, &generation})
                for (auto& rank : *instance) {
                    const auto outcome = rank->outcome(x.rid);
                    INFO(outcome.dump());
                    CHECK(outcome.at("state") == (x.aux ? "FULLY_TRANSFERRED" : "KV_TRANSFERRED"));
                    for (const auto& peer : outcome.at("peers")) // each has a reason of its own
                        CHECK(peer.at("route").get<std::string>().starts_with(route));
                    rank->released(x.rid);
                }
            for (auto& rank : generation)
                expect_content(*rank, x);
        }
        expect_clean_stop(generation);
        expect_clean_stop(context);
    }
}

TEST_CASE("end to end: a rank of another shape is refused by field and values, others are served") {
    struct shape {
        std::string model, field, writer_has, receiver_has;
    };
    instance_processes context{{"context", 1, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    std::uint64_t rid = 0;
    for (const auto& other :
         {shape{"layers=5,heads=4,head_dim=32,element_bytes=2,tokens_per_block=16", "element_shape",
                "has [16]", "has [32]"},
          shape{"layers=5,heads=4,head_dim=16,element_bytes=4,tokens_per_block=16", "element_type",
                "has \"2 bytes\"", "has \"4 bytes\""}}) {
        CAPTURE(other.field);
        instance_processes stranger{{"stranger", 1, 1, other.model, 64, {}}};
        const request refused{++rid, {0}, {0}, 8, false};
        receive(stranger, context.endpoint, refused);
        const auto outcome = stranger[0].outcome(refused.rid);
        CHECK(outcome.at("state") == "ERROR");
        CHECK(outcome.at("error").at("code") == "layout_mismatch");
        const std::string text = outcome.at("error").at("text");
        for (const auto& part :
             {other.field, "context/0 " + other.writer_has, "stranger/0 " + other.receiver_has})
            CHECK_MESSAGE(text.find(part) != text.npos, text);
        stranger[0].released(refused.rid);

        const request served{++rid, {0, 1}, {2, 3}, 32, false};
        send(context, served);
        receive(generation, context.endpoint, served);
        expect_success(generation[0], served, "mapped");
        expect_success(context[0], served, "mapped");
        expect_content(generation[0], served);
        expect_clean_stop(stranger);
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("end to end: an endpoint where nobody answers ends the session by the dial deadline") {
    silent_listener nobody;
    std::string closed;
    {
        silent_listener gone;
        closed = gone.endpoint;
    }
    instance_processes generation{{"generation", 1, 1, small_model, 8, {"--dial-deadline", "300"}}};
    for (const auto& endpoint : {closed, nobody.endpoint}) {
        CAPTURE(endpoint);
        const request x{endpoint == closed ? 1u : 2u, {0}, {0}, 16, false};
        receive(generation, endpoint, x);
        const auto outcome = generation[0].outcome(x.rid, 2s);
        INFO(outcome.dump());
        CHECK(outcome.at("state") == "ERROR");
        CHECK(outcome.at("error").at("code")
              == (endpoint == closed ? "dial_failed" : "deadline_exceeded"));
        CHECK(outcome.at("error").at("text").get<std::string>().find(endpoint)
              != std::string::npos);
        generation[0].released(x.rid);
    }
    expect_clean_stop(generation);
}

TEST_CASE("end to end: a second open of a live rid is refused, and the first stays reachable") {
    instance_processes context{{"context", 1, 1, small_model, 8, {}}};
    CHECK(context[0].ask({{"do", "open"}, {"rid", 7}}).at("event") == "opened");
    const auto second = context[0].ask({{"do", "open"}, {"rid", 7}});
    CHECK(second.at("event") == "error");
    CHECK(second.at("error").at("code") == "duplicate");
    CHECK(context[0].ask({{"do", "cancel"}, {"rid", 7}}).at("event") == "cancelling");
    CHECK(context[0].outcome(7).at("state") == "CANCELLED");
    context[0].released(7);
    CHECK(context[0].ask({{"do", "open"}, {"rid", 7}}).at("event") == "opened"); // it is free again
    context[0].ask({{"do", "cancel"}, {"rid", 7}});
    context[0].released(7);
    expect_clean_stop(context);
}

TEST_CASE("end to end: the log says at each level what it promises, and which release runs") {
    for (const std::string level : {"info", "debug"}) {
        CAPTURE(level);
        ::setenv("KVFERRY_LOG", level.c_str(), 1);
        instance_processes context{{"context", 1, 1, small_model, 8, {"--bind", "127.0.0.1"}}};
        instance_processes generation{{"generation", 1, 1, small_model, 8, {}}};
        ::unsetenv("KVFERRY_LOG");
        const std::string version = context[0].ready().at("version");
        const request x{1, {0}, {0}, 16, false};
        send(context, x);
        receive(generation, context.endpoint, x);
        expect_success(generation[0], x, "mapped");
        expect_clean_stop(generation);
        expect_clean_stop(context);
        const auto log = generation[0].log();
        INFO(log);
        CHECK(log.find("kvferry " + version + ", UCX ") != log.npos);
        CHECK(log.find("KV_TRANSFERRED") != log.npos);
        CHECK((log.find("sends request_data, rid 1 ") != log.npos) == (level == "debug"));
    }
}

TEST_CASE("end to end: an aux record that is too long is reported when it is handed over") {
    instance_processes context{{"context", 1, 1, small_model, 8, {}}};
    const json long_one{{"first_tokens", std::vector<int>(20'000, 5)}};
    CHECK(context[0]
              .ask({{"do", "send"},
                    {"rid", 7},
                    {"slots", slots_from(0, 1)},
                    {"prompt_tokens", 16},
                    {"aux", long_one}})
              .at("event")
          == "sending");
    const auto failed = context[0].wait_for("piece_failed");
    CHECK(failed.at("rid") == 7);
    CHECK(failed.at("kind") == "aux");
    CHECK(failed.at("error").at("code") == "limit_exceeded");
    context[0].ask({{"do", "cancel"}, {"rid", 7}});
    context[0].released(7);
    expect_clean_stop(context);
}

TEST_CASE(
    "end to end: a rank that starts before rank 0 waits for it; one that never comes is named") {
    std::string endpoint;
    {
        silent_listener free_port;
        endpoint = free_port.endpoint;
    }
    const auto port = endpoint.substr(endpoint.rfind(':') + 1);
    rank_process second{{"--instance", "context", "--layout", "tp=2,tp_rank=1", "--model",
                         small_model, "--info-endpoint", endpoint, "--dial-deadline", "10000"}};
    rank_process first{{"--instance", "context", "--layout", "tp=2,tp_rank=0", "--model",
                        small_model, "--port", port}};
    CHECK(first.ready().at("info_endpoint") == endpoint);
    CHECK(second.ready().at("rank") == 1);
    CHECK(second.stop() == 0);
    CHECK(first.stop() == 0);

    rank_process alone{{"--instance", "context", "--layout", "tp=2,tp_rank=0", "--model",
                        small_model, "--dial-deadline", "1000"}};
    instance_processes generation{
        {"generation", 1, 1, small_model, 8, {"--dial-deadline", "1000"}}};
    receive(generation, alone.info_endpoint(), {1, {0}, {0}, 16, false});
    const auto outcome = generation[0].outcome(1);
    INFO(outcome.dump());
    CHECK(outcome.at("error").at("code") == "instance_incomplete");
    CHECK(outcome.at("error").at("text").get<std::string>().find("rank 1 of 2")
          != std::string::npos);
    generation[0].released(1);
    expect_clean_stop(generation);
    CHECK(alone.stop() == 0);
}

TEST_CASE("end to end: a request that the sender never opens ends by the session's deadline") {
    instance_processes context{{"context", 1, 1, small_model, 8, {}}};
    instance_processes generation{
        {"generation", 1, 1, small_model, 8, {"--session-deadline", "300"}}};
    receive(generation, context.endpoint, {1, {0}, {0}, 16, false});
    const auto outcome = generation[0].outcome(1, 2s);
    INFO(outcome.dump());
    CHECK(outcome.at("error").at("code") == "deadline_exceeded");
    CHECK(outcome.at("milliseconds") >= 290);
    generation[0].released(1); // the writer reports that it never had the request
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("end to end: a cancel from either side ends both, and both are released") {
    instance_processes context{{"context", 1, 1, small_model, 8, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 8, {}}};
    for (const bool by_context : {true, false}) {
        CAPTURE(by_context);
        const std::uint64_t rid = by_context ? 1 : 2;
        CHECK(context[0].ask({{"do", "open"}, {"rid", rid}}).at("event") == "opened");
        receive(generation, context.endpoint, {rid, {0}, {0}, 16, false});
        // The session is bound: the context rank knows who asks.
        json status;
        do
            status = context[0].ask({{"do", "status"}, {"rid", rid}});
        while (status.at("event") == "status" && status.at("peers").empty());
        CHECK(status.at("event") == "status");
        (by_context ? context : generation)[0].ask({{"do", "cancel"}, {"rid", rid}});
        for (auto* rank : {&context[0], &generation[0]}) {
            CHECK(rank->outcome(rid).at("state") == "CANCELLED");
            rank->released(rid);
        }
    }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("end to end: a survivor holds what it held before its peers came and went") {
    const auto shared_before = shared_memory_files();
    instance_processes context{{"context", 1, 1, small_model, 64, {}}};
    std::size_t before = 0;
    for (std::uint64_t round = 1; round <= 3; ++round) {
        CAPTURE(round);
        const request x{round, {0, 1}, {2, 3}, 32, false};
        instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
        send(context, x);
        receive(generation, context.endpoint, x);
        expect_success(generation[0], x, "mapped");
        expect_success(context[0], x, "mapped");
        if (round == 2)
            generation[0].kill();
        else
            expect_clean_stop(generation);
        generation[0].wait_for_end();
        // When the context rank has no links, it has seen the link's end.
        const auto deadline = std::chrono::steady_clock::now() + 5s;
        json counters;
        do
            counters = context[0].ask({{"do", "statistics"}});
        while ((counters.at("links_live") > 0 || (before && context[0].descriptors() > before))
               && std::chrono::steady_clock::now() < deadline);
        CHECK(counters.at("links_live") == 0);
        if (round == 1) // libraries open some descriptors at their first use and keep them
            before = context[0].descriptors();
        CHECK(context[0].descriptors() == before);
    }
    expect_clean_stop(context);
    // Other processes of this machine may come and go; files of this test would stay.
    auto left = shared_memory_files();
    std::erase_if(left, [&](const std::string& name) { return shared_before.contains(name); });
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    while (!left.empty() && std::chrono::steady_clock::now() < deadline) {
        const auto now = shared_memory_files();
        std::erase_if(left, [&](const std::string& name) { return !now.contains(name); });
    }
    CHECK(left == std::set<std::string>{});
}

TEST_CASE("end to end: ranks withdraw their pools and publish them again in turns, and every "
          "request between arrives exactly") {
    instance_processes context{{"context", 2, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 2, small_model, 64, {}}};
    for (auto& rank : generation)
        CHECK(rank->ask({{"do", "connect"}, {"context", context.endpoint}}).at("event")
              == "connected");
    std::uint64_t rid = 0;
    const auto serve = [&] {
        const request x{++rid, {0, 1, 2}, {5, 3, 9}, 41, false};
        receive(generation, context.endpoint, x);
        send(context, x);
        for (auto* side : {&context, &generation})
            for (auto& rank : *side)
                expect_success(*rank, x, "mapped");
        for (auto& rank : generation)
            expect_content(*rank, x);
    };
    serve();
    for (int round = 0; round < 2; ++round)
        for (auto* side : {&context, &generation})
            for (auto& rank : *side) {
                CHECK(rank->ask({{"do", "republish"}}).at("event") == "republished");
                serve();
            }
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
