// SPDX-License-Identifier: Apache-2.0
// `kvferry top`: rates between two looks, the tables and the JSON.
#include "tests/support/contains.hpp"
#include "tests/tools/trace/deployment_views.hpp"
#include "tools/common/people.hpp"
#include "tools/trace/deployment/deployment_top.hpp"
#include "tools/trace/deployment/jobs.hpp"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <atomic>
#include <set>
#include <sstream>

using namespace kvferry;
using namespace kvferry::testing;
using namespace kvferry::tracing;

namespace {

rank_status with_bytes(const std::string& rank, std::uint64_t now_ns, std::uint64_t out,
                       std::uint64_t in) {
    auto result = said(rank, now_ns);
    result.sides[0].bytes = out;
    result.sides[1].bytes = in;
    return result;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream from{text};
    for (std::string line; std::getline(from, line);)
        result.push_back(line);
    return result;
}

} // namespace

TEST_CASE("top: rates are the bytes between two looks, by the rank's own clock") {
    const auto before =
        std::vector{instance("prefill", {telling(with_bytes("prefill/0", 1'000'000'000, 500, 0)),
                                         telling(with_bytes("prefill/1", 1'000'000'000, 9'000, 0)),
                                         silent("prefill/2", "no answer"),
                                         telling(with_bytes("prefill/3", 9'000'000'000, 0, 0))})};
    const auto now = std::vector{instance(
        "prefill", {telling(with_bytes("prefill/0", 3'000'000'000, 4'000'000'500, 1'000'000'000)),
                    telling(with_bytes("prefill/1", 3'000'000'000, 10, 0)), // started anew
                    telling(with_bytes("prefill/2", 3'000'000'000, 7, 7)),  // not seen before
                    telling(with_bytes("prefill/3", 1'000'000'000, 9, 9))})};
    const auto rates = rates_between(before, now);
    REQUIRE(rates.size() == 1);
    CHECK(rates.at("prefill/0").out == doctest::Approx(2.0));
    CHECK(rates.at("prefill/0").in == doctest::Approx(0.5));
}

TEST_CASE("top: one table for an instance: states, rates, failures, and who is silent and why") {
    auto first = said("prefill-3/0");
    first.sides[0].states = {{"INIT", 1}, {"TRANSFERRING", 3}};
    first.sides[0].succeeded = 1200;
    first.sides[0].failed = {{"deadline_exceeded", 2}};
    auto hangs = said("prefill-3/1");
    hangs.sides[0].states = {{"TRANSFERRING", 4}};
    hangs.problem = "the rank's loop has not answered for 500 ms";
    instance_listing listed;
    listed.role = instance_role::context;
    listed.draining = true;
    const auto text = text_of(
        {instance("prefill-3",
                  {telling(first), telling(hangs), silent("prefill-3/2", "10.0.0.7:1: no answer")},
                  listed)},
        {{"prefill-3/0", {0.25, 3.4}}, {"prefill-3/1", {0, 1}}}, 10);
    const auto lines = lines_of(text);
    std::string line;
    REQUIRE(lines.size() == 8);
    CHECK(lines[0] == "prefill-3  context  draining  2 of 3 ranks tell  10.0.0.7:4711");
    CHECK(lines[1] == "rank  state        in GB/s  out GB/s  done  sessions                failed");
    CHECK(lines[2]
          == "   0  published       0.25      3.40  1200  1 INIT, 3 TRANSFERRING  2 "
             "deadline_exceeded");
    CHECK(lines[3] == "   1  published       0.00      1.00     0  4 TRANSFERRING          -");
    CHECK(lines[4] == "   2  unreachable        -         -     -  -                       -");
    CHECK(lines[5]
          == " all                  0.25      4.40  1200  1 INIT, 7 TRANSFERRING  2 "
             "deadline_exceeded");
    CHECK(lines[6] == "rank 1: the rank's loop has not answered for 500 ms");
    CHECK(lines[7] == "rank 2: 10.0.0.7:1: no answer");
    CHECK(tools::to_ascii(text) == text); // also LANG=C shows every character
    for (std::istringstream parts{tools::fold_line(lines[2], 60)}; std::getline(parts, line);)
        CHECK(line.size() <= 60); // a narrow terminal goes on in the next line
}

TEST_CASE("top: before the second look there are no rates, and a rank 0 that is silent hides the "
          "others") {
    auto lost = instance("prefill-3", {silent("prefill-3/0", "no answer")});
    lost.ranks_unknown = 7;
    const auto text = text_of({instance("decode", {telling(said("decode/0"))}), lost}, {}, 10);
    const auto lines = lines_of(text);
    REQUIRE(lines.size() == 9);
    CHECK(lines[0] == "decode  serving  1 of 1 ranks tell  10.0.0.7:4711");
    CHECK(contains(lines[2], "-         -     0  -         -"));
    CHECK(lines[4] == "prefill-3  silent  0 of 8 ranks tell  10.0.0.7:4711");
    CHECK(lines[7] == "rank 0: no answer");
    CHECK(lines[8] == "its 7 other ranks: rank 0 has not said where they are");
}

TEST_CASE("top: sessions of all ranks, those that end next first, and how many more there are") {
    auto first = said("prefill/0");
    auto second = said("decode/0");
    first.sessions = {waiting("context", "INIT", 7, {"request_data", "host", ""}),
                      waiting("context", "ERROR", 8, {"proof", "peer_link", "decode/0"})};
    first.sessions[0].left_ns = 9'000'000'000;
    first.sessions[0].age_ns = 51'000'000'000;
    first.sessions_untold = 40;
    second.sessions = {waiting("generation", "TRANSFERRING", 9,
                               {"reports of context rank 0", "tx_session", "prefill/0"})};
    second.sessions[0].left_ns = 2'000'000'000;
    second.sessions[0].waits_untold = 3;
    const std::vector all{instance("prefill", {telling(first)}),
                          instance("decode", {telling(second)})};
    const auto text = text_of(all, {}, 2);
    const auto lines = lines_of(text);
    REQUIRE(lines.size() == 12);
    CHECK(lines[9]
          == "  9  decode/0   generation  TRANSFERRING         -   2.00 s  reports of context "
             "rank 0 (prefill/0 tx_session) and 3 more");
    CHECK(lines[10]
          == "  7  prefill/0  context     INIT            51.0 s   9.00 s  request_data (host)");
    CHECK(lines[11] == "and 41 more sessions");

    const auto json = json_of(all, {{"decode/0", {1.5, 0}}});
    REQUIRE(json.at("sessions").size() == 3);
    CHECK(json.at("sessions")[0].at("rid") == 9);
    CHECK(json.at("sessions")[0].at("deadline_in_ns") == 2'000'000'000);
    CHECK_FALSE(json.at("sessions")[2].contains("deadline_in_ns"));
    const auto& rank = json.at("instances")[1].at("ranks")[0];
    CHECK(rank.at("rank") == "decode/0");
    CHECK(rank.at("state") == "published");
    CHECK(rank.at("in_gb_per_s") == 1.5);
    CHECK_FALSE(json.at("instances")[0].at("ranks")[0].contains("in_gb_per_s"));
}

TEST_CASE("top: a rank of a release before is no failure of the network") {
    auto old = silent("prefill/1", "does not tell (release 0.1.0)");
    old.does_not_tell = true;
    const std::vector all{instance("prefill", {telling(said("prefill/0")), old})};
    CHECK(contains(text_of(all, {}, 0), "rank 1: does not tell (release 0.1.0)"));
    CHECK(json_of(all, {}).at("instances")[0].at("ranks")[1].at("state") == "does not tell");
}

TEST_CASE("jobs: all are done, also those that a job adds, on no more threads than there may be") {
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::atomic<int> done{0};
    {
        jobs all{3};
        for (int index = 0; index < 20; ++index)
            all.add([&] {
                for (int more = 0; more < 5; ++more)
                    all.add([&] { ++done; });
                std::lock_guard lock{mutex};
                threads.insert(std::this_thread::get_id());
                ++done;
            });
        all.wait();
    }
    CHECK(done == 120);
    CHECK(threads.size() <= 3);
    jobs none{2};
    none.wait();
}
