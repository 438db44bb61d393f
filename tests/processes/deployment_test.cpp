// SPDX-License-Identifier: Apache-2.0
// `kvferry top` and `kvferry why` over a deployment: two instances of two ranks in a real etcd,
// with ranks that are frozen, dead, of a release before, or have another secret. It says "skipped:
// " where etcd is not installed.
#include "tests/processes/etcd.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"

namespace kvferry::testing {

namespace {

struct printed {
    std::string text;
    int status = -1;
};

printed run(std::vector<std::string> words) {
    words.insert(words.begin(), rank_program());
    program shown{std::move(words)};
    const auto status = shown.status();
    return {shown.said, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

/// One look at ranks that answer at once.
json look(std::vector<std::string> words, int status = 0) {
    words.insert(words.begin(), {"top", "--once", "--json", "--every", "50ms"});
    const auto said = run(std::move(words));
    INFO(said.text);
    REQUIRE(said.status == status);
    return json::parse(said.text);
}

json rank_in(const json& seen, const std::string& name) {
    for (const auto& instance : seen.at("instances"))
        for (const auto& rank : instance.at("ranks"))
            if (rank.at("rank") == name)
                return rank;
    FAIL(name << " is not in " << seen.dump());
    return {};
}

std::string problem_of(const json& seen, const std::string& name) {
    return rank_in(seen, name).value("problem", "");
}

/// Asks until the nearest cause names this: messages may still be on their way.
json cause(const std::vector<std::string>& words, const std::string& who) {
    std::string last;
    for (int tries = 0; tries < 50; ++tries) {
        auto all = std::vector<std::string>{"why", "7", "--json"};
        all.insert(all.end(), words.begin(), words.end());
        const auto said = run(std::move(all));
        REQUIRE(said.status == 0);
        last = said.text;
        const auto told = json::parse(said.text);
        if (!told.at("waits").empty() && told.at("waits")[0].at("who") == who)
            return told;
    }
    FAIL("nobody says that " << who << " must act: " << last);
    return {};
}

instance_processes::options two(const std::string& name, std::vector<std::string> flags) {
    return {name, 2, 1, small_model, 64, std::move(flags)};
}

void send_from(rank_process& rank, const request& x) {
    REQUIRE(rank.ask({{"do", "fill"},
                      {"slots", x.context_slots},
                      {"prompt_tokens", x.prompt_tokens},
                      {"seed", x.seed()}})
                .at("event")
            == "filled");
    REQUIRE(rank.ask({{"do", "send"},
                      {"rid", x.rid},
                      {"slots", x.context_slots},
                      {"prompt_tokens", x.prompt_tokens}})
                .at("event")
            == "sending");
}

struct two_instances {
    deployment all;
    instance_processes context{two("prefill-3", all.flags("context"))};
    instance_processes generation{two("decode-0", all.flags("generation"))};
    std::vector<std::string> where{"--etcd", all.directory.url, "--deadline", "2s"};

    two_instances() {
        all.await("prefill-3", {{"ranks", 2}});
        all.await("decode-0", {{"ranks", 2}});
    }
};

} // namespace

TEST_CASE("deployment: top finds all ranks of all instances, and what they have done") {
    if (no_etcd())
        return;
    two_instances run_here;
    const request x{3, {0, 1}, {2, 3}, 32, false};
    send(run_here.context, x);
    receive(run_here.generation, "etcd:prefill-3", x);
    for (auto& rank : run_here.generation)
        expect_success(*rank, x, "");
    for (auto& rank : run_here.context)
        expect_success(*rank, x, "");
    const auto seen = look(run_here.where);
    REQUIRE(seen.at("instances").size() == 2);
    for (const auto& instance : seen.at("instances")) {
        CHECK(instance.at("ranks").size() == 2);
        CHECK(instance.at("role")
              == (instance.at("name") == "prefill-3" ? "context" : "generation"));
        CHECK(instance.at("draining") == false);
    }
    for (const std::string name : {"prefill-3/0", "prefill-3/1", "decode-0/0", "decode-0/1"}) {
        CAPTURE(name);
        const auto rank = rank_in(seen, name);
        CHECK(rank.at("state") == "published");
        const auto side = rank.at(name[0] == 'p' ? "context" : "generation");
        CHECK(side.at("succeeded") == 1);
        CHECK(side.at("bytes") == 32 * small_bytes_per_token / 2);
        CHECK(rank.at("in_gb_per_s") == 0);
        CHECK(rank.at("out_gb_per_s") == 0);
    }
    // By endpoint, for people, one instance.
    const auto text = run({"top", "--once", "--every", "50ms", run_here.context.endpoint}).text;
    CHECK(contains(text, "prefill-3  serving  2 of 2 ranks tell  " + run_here.context.endpoint));
    CHECK_FALSE(contains(text, "decode-0"));
    CHECK(look({"--etcd", run_here.all.directory.url, "etcd:decode-0"}).at("instances").size()
          == 1);
}

TEST_CASE("deployment: a frozen rank costs its own line, and so does a dead one") {
    if (no_etcd())
        return;
    two_instances run_here;
    auto where = run_here.where;
    where.back() = "400ms";
    run_here.context[1].freeze();
    auto seen = look(where);
    CHECK(rank_in(seen, "prefill-3/1").at("state") == "unreachable");
    CHECK(contains(problem_of(seen, "prefill-3/1"), "no answer within"));
    CHECK(contains(problem_of(seen, "prefill-3/1"), "rank 0 has heard of it"));
    for (const std::string name : {"prefill-3/0", "decode-0/0", "decode-0/1"})
        CHECK(rank_in(seen, name).at("state") == "published");
    run_here.context[1].thaw();
    run_here.generation[1].kill();
    seen = look(run_here.where);
    CHECK(rank_in(seen, "prefill-3/1").at("state") == "published");
    CHECK(rank_in(seen, "decode-0/1").at("state") == "unreachable");
    // Of an instance whose rank 0 is frozen nobody else is known.
    run_here.context[0].freeze();
    seen = look(where);
    CHECK(rank_in(seen, "prefill-3/0").at("state") == "unreachable");
    for (const auto& instance : seen.at("instances"))
        CHECK(instance.at("ranks_unknown") == (instance.at("name") == "prefill-3" ? 1 : 0));
    run_here.context[0].thaw();
}

TEST_CASE("deployment: top goes on, and remembers where the ranks of a frozen rank 0 are") {
    if (no_etcd())
        return;
    two_instances run_here;
    program shown{{rank_program(), "top", "--every", "100ms", "--deadline", "400ms", "--etcd",
                   run_here.all.directory.url}};
    REQUIRE(shown.says("prefill-3  context  serving  2 of 2 ranks tell"));
    run_here.context[0].freeze();
    CHECK(shown.says("prefill-3  context  serving  1 of 2 ranks tell"));
    run_here.context[0].thaw();
    run_here.all.directory.kill();
    shown.said.clear();
    CHECK(shown.says("the list of instances is old"));
    CHECK(shown.says("prefill-3  context  serving  2 of 2 ranks tell"));
}

TEST_CASE("deployment: why names the rank for which a request waits anywhere") {
    if (no_etcd())
        return;
    two_instances run_here;
    const auto x = whole_blocks(7, 4, 16);
    receive(run_here.generation, "etcd:prefill-3", x);
    send_from(run_here.context[0], x);
    // The host of rank 1 has not opened it.
    auto told = cause(run_here.where, "prefill-3/1 host");
    CHECK(told.at("ranks") == 4);
    CHECK(told.at("ranks_that_tell") == 4);
    CHECK(contains(told.dump(), "decode-0/1"));
    const auto text =
        run({"why", "7", run_here.context.endpoint, run_here.generation.endpoint}).text;
    CHECK(contains(text, "prefill-3/1 host must act"));
    // A frozen rank comes before everything else.
    run_here.context[1].freeze();
    auto where = run_here.where;
    where.back() = "400ms";
    told = cause(where, "prefill-3/1");
    CHECK(told.at("waits")[0].at("kind") == "silence");
    CHECK(told.at("ranks_that_tell") == 3);
    CHECK(told.at("silent")[0].at("rank") == "prefill-3/1");
    run_here.context[1].thaw();

    const auto unknown = run({"why", "8", "--etcd", run_here.all.directory.url});
    CHECK(unknown.status == 0);
    CHECK(contains(unknown.text, "none of the 4 ranks that tell has a session of it"));
}

TEST_CASE(
    "deployment: ranks are asked with the deployment's secret, and with another one refused by "
    "name") {
    const secret_file ours{secret_one};
    const secret_file theirs{secret_two};
    if (contains(run({"top", "--once", "--secret-file", ours.path(), "127.0.0.1:1"}).text,
                 "OpenSSL")) {
        MESSAGE("skipped: this build has no OpenSSL");
        return;
    }
    instance_processes context{
        two("prefill-3", {"--secret-file", ours.path(), "--bind", "127.0.0.1"})};
    const auto seen = look({"--secret-file", ours.path(), context.endpoint});
    CHECK(rank_in(seen, "prefill-3/0").at("state") == "published");
    CHECK(rank_in(seen, "prefill-3/1").at("state") == "published");
    for (const auto& words :
         {std::vector<std::string>{"--secret-file", theirs.path()}, std::vector<std::string>{}}) {
        auto all = words;
        all.push_back(context.endpoint);
        const auto refused = look(all, 1);
        INFO(refused.dump());
        const auto& rank = refused.at("instances")[0].at("ranks")[0];
        CHECK(rank.at("state") == "unreachable");
        CHECK(contains(rank.at("problem").get<std::string>(), "foreign_peer"));
    }
    // Without a secret the program asks nobody on another machine.
    const auto far = look({"192.0.2.1:4711"}, 1);
    CHECK(contains(far.dump(), "foreign_peer"));
}

TEST_CASE("deployment: a rank of a release before does not tell, and says which it is") {
    instance_processes context{two("prefill-3", {})};
    context.use("", {"--protocol", "6"});
    context[1].kill();
    context.restart(1);
    auto seen = look({context.endpoint});
    CHECK(rank_in(seen, "prefill-3/0").at("state") == "published");
    CHECK(rank_in(seen, "prefill-3/1").at("state") == "does not tell");
    CHECK(contains(problem_of(seen, "prefill-3/1"), "older release (protocol 6)"));

    instance_processes old{two("decode-0", {"--protocol", "6"})};
    seen = look({old.endpoint}, 1);
    const auto& rank = seen.at("instances")[0].at("ranks")[0];
    CHECK(rank.at("state") == "does not tell");
    CHECK(contains(rank.at("problem").get<std::string>(), "older release (protocol 6)"));
}

TEST_CASE("deployment: who says nothing of where the instances are hears how to") {
    const auto nothing = run({"top", "--once"});
    CHECK(nothing.status == 2);
    CHECK(contains(nothing.text, "say where the instances are"));
    const auto wrong = run({"why", "7", "here"});
    CHECK(wrong.status == 2);
    const auto nobody = run({"top", "--once", "127.0.0.1:1"});
    CHECK(nobody.status == 1);
    CHECK(contains(nobody.text, "unreachable"));
    CHECK(contains(nobody.text, "127.0.0.1:1"));
}

} // namespace kvferry::testing
