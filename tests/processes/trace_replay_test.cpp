// SPDX-License-Identifier: Apache-2.0
// Recorded runs, and simulations that take the same course: messages between the same parties, and
// the same ends.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/other_program.hpp"

#include <filesystem>
#include <fstream>

namespace kvferry::testing {

namespace {

struct recorded_ranks {
    scratch folder;
    std::string run = (folder.path / "run").string();

    instance_processes::options ranks(const std::string& name, unsigned tp, unsigned pp,
                                      std::vector<std::string> more = {}) const {
        more.insert(more.end(), {"--trace", run});
        return {name, tp, pp, small_model, 64, std::move(more)};
    }
};

std::string said_by(std::vector<std::string> words, int wanted = 0) {
    program run{words};
    const auto status = run.status();
    INFO(words[1] << ": " << run.said);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == wanted);
    return run.said;
}

std::string simulator() {
    return (std::filesystem::path{rank_program()}.parent_path() / "kvferry-sim").string();
}

/// Of the recording, by the simulation, under several orders of what happens at one time.
void expect_same_course(const recorded_ranks& of) {
    const auto file = (of.folder.path / "run.json").string();
    const auto again = (of.folder.path / "again").string();
    said_by({rank_program(), "trace", "replay", "-o", file, of.run});
    for (const auto* seed : {"1", "2", "3"}) {
        CAPTURE(seed);
        std::filesystem::remove_all(again);
        said_by({simulator(), "--scenario", file, "--seeds", "1", "--from", seed, "--trace", again,
                 "--trace-folder", of.folder.path.string()});
        CHECK(contains(said_by({rank_program(), "trace", "diff", "--course", of.run, again}),
                       "every request took the same course"));
    }
}

void stop(instance_processes& context, instance_processes& generation) {
    for (auto* side : {&generation, &context})
        for (auto& rank : *side)
            CHECK(rank->stop() == 0);
}

/// The requests of so many receivers have reached every sender.
void await_request(instance_processes& context, std::uint64_t rid, std::size_t receivers) {
    for (auto& rank : context)
        for (auto status = json::object();
             status.value("peers", json::object()).size() < receivers;) {
            status = rank->ask({{"do", "status"}, {"rid", rid}});
            INFO(status.dump());
            REQUIRE(status.contains("peers"));
        }
}

} // namespace

TEST_CASE("trace replay: requests of several shapes, in either order, in pieces and with aux") {
    for (const auto& [tp, pp, other_tp, other_pp, route] :
         {std::tuple{1u, 1u, 1u, 1u, "mapped"}, std::tuple{2u, 1u, 1u, 2u, "mapped"},
          std::tuple{2u, 1u, 2u, 1u, "direct"}}) {
        CAPTURE(tp);
        CAPTURE(other_pp);
        const recorded_ranks recorded;
        auto flags = flags_of(route);
        instance_processes context{recorded.ranks("prefill-3", tp, pp, flags)};
        instance_processes generation{recorded.ranks("decode-0", other_tp, other_pp, flags)};
        auto first = whole_blocks(1, 2, 16); // the sender opens first
        send(context, first);
        receive(generation, context.endpoint, first);
        auto second = whole_blocks(2, 2, 16, 4); // the receiver does
        second.aux = true;
        receive(generation, context.endpoint, second);
        send(context, second);
        for (const auto& x : {first, second})
            for (auto* side : {&context, &generation})
                for (auto& rank : *side)
                    expect_success(*rank, x, route);
        const request third{3, slots_from(8, 4), slots_from(8, 4), 64, false};
        for (const auto& [begin, end] : {std::pair{0, 2}, std::pair{2, 4}}) {
            for (auto& rank : context)
                rank->ask({{"do", "send"},
                           {"rid", third.rid},
                           {"slots", slots_from(8 + begin, 2)},
                           {"first_block", begin},
                           {"tokens", {16 * begin, 16 * end}},
                           {"last", end == 4},
                           {"prompt_tokens", 64}});
            if (begin == 0) {
                receive(generation, context.endpoint, third);
                await_request(context, third.rid, tp == other_tp ? 1 : generation.size());
            }
        }
        for (auto* side : {&context, &generation})
            for (auto& rank : *side)
                expect_success(*rank, third, route);
        stop(context, generation);
        expect_same_course(recorded);
    }
}

TEST_CASE("trace replay: a cancel by either side, and a deadline of either side, end it the same "
          "way") {
    const recorded_ranks recorded;
    instance_processes context{recorded.ranks("prefill-3", 2, 1)};
    instance_processes generation{recorded.ranks("decode-0", 1, 1)};
    const auto outcomes = [&](std::uint64_t rid) {
        for (auto* side : {&context, &generation})
            for (auto& rank : *side) {
                const auto outcome = rank->outcome(rid);
                INFO(outcome.dump());
                CHECK(outcome.at("state") != "KV_TRANSFERRED");
                rank->released(rid);
            }
    };
    const auto opened = [&](std::uint64_t rid, const json& context_more,
                            const json& generation_more) {
        const auto x = whole_blocks(rid, 2, 16);
        for (auto& rank : context) {
            json command{{"do", "open"}, {"rid", rid}};
            command.update(context_more);
            rank->ask(command);
        }
        receive(generation, context.endpoint, x, generation_more);
        await_request(context, rid, 1);
    };
    opened(1, json::object(), json::object());
    generation[0].ask({{"do", "cancel"}, {"rid", 1}});
    outcomes(1);

    opened(2, json::object(), json::object());
    for (auto& rank : context)
        rank->ask({{"do", "cancel"}, {"rid", 2}});
    outcomes(2);

    opened(3, json::object(), {{"deadline_ms", 300}});
    outcomes(3);

    opened(4, {{"deadline_ms", 300}}, json::object());
    outcomes(4);
    stop(context, generation);
    expect_same_course(recorded);
}

TEST_CASE("trace replay: another course is told, and so is a run that cannot be replayed") {
    const recorded_ranks one;
    const recorded_ranks other;
    for (const auto* recorded : {&one, &other}) {
        instance_processes context{recorded->ranks("prefill-3", 1, 1)};
        instance_processes generation{recorded->ranks("decode-0", 1, 1)};
        const auto x = whole_blocks(7, 2, 16);
        receive(generation, context.endpoint, x);
        if (recorded == &other)
            generation[0].ask({{"do", "cancel"}, {"rid", 7}});
        else
            send(context, x);
        generation[0].outcome(7);
        generation[0].released(7);
        stop(context, generation);
    }
    const auto said = said_by({rank_program(), "trace", "diff", "--course", one.run, other.run}, 1);
    CHECK(contains(said, "rid 7, the end of receiver 0: KV_TRANSFERRED; in the second run: "
                         "CANCELLED: cancelled"));
    CHECK(contains(said_by({rank_program(), "trace", "replay", "--rid", "8", one.run}, 1),
                   "no request was opened in this recording with rid 8"));
    const auto file = (one.folder.path / "wrong.json").string();
    std::ofstream{file} << R"({"kvferry_scenario":1,"context":{"tp":9,"pp":1}})";
    CHECK(contains(said_by({simulator(), "--scenario", file}, 2), "tp is 9, not 1 to 4"));
}

} // namespace kvferry::testing
