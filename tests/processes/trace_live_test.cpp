// SPDX-License-Identifier: Apache-2.0
// `kvferry trace why` and `record` on running ranks. Every kind of stall names who must act; a rank
// that dies or freezes is reported, and nothing waits for it.
#include "actors/host/configure.hpp"
#include "tests/processes/end_to_end.hpp"
#include "tests/support/contains.hpp"
#include "tools/trace/recording.hpp"

#include <arpa/inet.h>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <sys/socket.h>

namespace kvferry::testing {

namespace {

/// What the program prints, and its exit status.
struct printed {
    std::string text;
    int status = -1;
};

printed run(const std::string& arguments) {
    printed result;
    auto* pipe = ::popen((std::string{KVFERRY_PROGRAM} + " " + arguments + " 2>&1").c_str(), "r");
    REQUIRE(pipe);
    char bytes[4096];
    while (const auto count = std::fread(bytes, 1, sizeof bytes, pipe))
        result.text.append(bytes, count);
    result.status = WEXITSTATUS(::pclose(pipe));
    return result;
}

/// A folder for sockets. Ranks started while it exists use it.
struct live_folder {
    std::string path;
    live_folder() {
        char name[] = "/tmp/kvferry-test-XXXXXX";
        REQUIRE(::mkdtemp(name));
        path = name;
        ::setenv("KVFERRY_TRACE_DIR", (path + "/sockets").c_str(), 1);
    }
    ~live_folder() {
        ::unsetenv("KVFERRY_TRACE_DIR");
        std::filesystem::remove_all(path);
    }
};

/// One rank each; every test asks about rid 7.
struct two_ranks {
    live_folder folder;
    instance_processes context{{"context", 1, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    request asked = whole_blocks(7, 4, 16);
};

/// Waits until the nearest cause is of this kind: messages that must come first may still be on
/// their way.
json cause_of_stall(const std::string& kind, const std::string& what) {
    printed said;
    std::string before;
    for (int tries = 0; tries < (kind == "silence" ? 3 : 50); ++tries) {
        before = std::exchange(said, run("trace why 7 --json")).text;
        const auto begin = said.text.find("[{"); // behind what is said of silent processes
        const auto rows =
            begin == std::string::npos ? json::array() : json::parse(said.text.substr(begin));
        if (!rows.empty() && rows[0].at("kind") == kind
            && contains(rows[0].at("what").get<std::string>(), what))
            return rows[0];
    }
    INFO("and before: " << before);
    FAIL("no " << kind << " about " << what << ": " << said.text);
    return {};
}

std::string process_text(rank_process& of) {
    return " process " + std::to_string(of.ready().at("pid").get<int>());
}

/// Listens and never answers.
struct mute_listener {
    unique_fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::string endpoint;

    mute_listener() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* any = reinterpret_cast<sockaddr*>(&address);
        REQUIRE(::bind(socket.get(), any, size) == 0);
        REQUIRE(::listen(socket.get(), 4) == 0);
        REQUIRE(::getsockname(socket.get(), any, &size) == 0);
        endpoint = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    }
};

} // namespace

TEST_CASE("trace why, live: a request whose session nobody opened is up to the context's host") {
    two_ranks ranks;
    receive(ranks.generation, ranks.context.endpoint, ranks.asked);
    const auto cause = cause_of_stall("session", "open_tx");
    CHECK(cause.at("who") == "context/0 host");
    CHECK(contains(cause.at("what").get<std::string>(), "request_data of generation/0"));
}

TEST_CASE("trace why, live: a session that nobody asks is up to a generation rank's host") {
    two_ranks ranks;
    send(ranks.context, ranks.asked);
    const auto cause = cause_of_stall("session", "a receiver's request_data");
    CHECK(cause.at("who") == "generation host");
    CHECK(cause.at("deadline_in_ns") > 0);
}

TEST_CASE("trace why, live: what the hosts have not given is up to them") {
    two_ranks ranks;
    REQUIRE(ranks.context[0].ask({{"do", "open"}, {"rid", 7}}).at("event") == "opened");
    receive(ranks.generation, ranks.context.endpoint, ranks.asked, {{"last", false}});
    auto cause = cause_of_stall("session", "the host's last");
    CHECK((cause.at("who") == "context/0 host" || cause.at("who") == "generation/0 host"));
    send(ranks.context, ranks.asked);
    cause = cause_of_stall("session", "the host's last receive(slice)");
    CHECK(cause.at("who") == "generation/0 host");
}

TEST_CASE("trace why, live: an aux record that is missing is up to the context's host") {
    two_ranks ranks;
    auto asked = ranks.asked;
    REQUIRE(ranks.context[0].ask({{"do", "open"}, {"rid", 7}, {"aux", true}}).at("event")
            == "opened");
    send(ranks.context, asked); // without aux
    asked.aux = true;
    receive(ranks.generation, ranks.context.endpoint, asked);
    const auto cause = cause_of_stall("session", "send_aux()");
    CHECK(cause.at("who") == "context/0 host");
}

TEST_CASE("trace why, live: an endpoint that does not answer is named") {
    two_ranks ranks;
    mute_listener nobody;
    receive(ranks.generation, nobody.endpoint, ranks.asked);
    const auto cause = cause_of_stall("session", "rank infos");
    CHECK(cause.at("who") == nobody.endpoint + " rank_info_server");
}

TEST_CASE("trace why, live: a rank that its instance lacks is named") {
    live_folder folder;
    rank_process first{
        {"--instance", "context", "--layout", "tp=2,tp_rank=0", "--model", small_model}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    receive(generation, first.info_endpoint(), whole_blocks(7, 4, 16));
    const auto cause = cause_of_stall("session", "rank infos");
    CHECK(cause.at("who") == "context/1");
    CHECK(contains(cause.at("text").get<std::string>(), "1 of the 2 ranks of context are there"));
}

TEST_CASE("trace why, live: a frozen peer is named by its process, before and after a cancel") {
    two_ranks ranks;
    REQUIRE(ranks.context[0].ask({{"do", "open"}, {"rid", 7}}).at("event") == "opened");
    receive(ranks.generation, ranks.context.endpoint, ranks.asked);
    while (ranks.generation[0].ask({{"do", "status"}, {"rid", 7}}).at("waits_for")
           != "reports of context rank 0") {
    }
    ranks.context[0].freeze();
    auto cause = cause_of_stall("silence", "reports of context rank 0");
    CHECK(cause.at("who") == "context/0" + process_text(ranks.context[0]));
    CHECK(contains(cause.at("text").get<std::string>(), "is stopped by a signal"));

    // The session is cancelled but not released: the frozen rank may still write.
    REQUIRE(ranks.generation[0].ask({{"do", "cancel"}, {"rid", 7}}).at("event") == "cancelling");
    ranks.generation[0].outcome(7);
    cause = cause_of_stall("silence", "proof that context rank 0 writes no more");
    CHECK(cause.at("who") == "context/0" + process_text(ranks.context[0]));
    CHECK_FALSE(cause.contains("deadline_in_ns"));
    ranks.context[0].thaw();
    ranks.generation[0].released(7);
}

TEST_CASE("trace why, live: a frozen peer without a link is named by its process") {
    live_folder folder;
    instance_processes context{{"context", 2, 1, small_model, 64, {}}};
    instance_processes generation{{"generation", 1, 1, small_model, 64, {}}};
    context[1].freeze();
    receive(generation, context.endpoint, whole_blocks(7, 4, 16));
    const auto cause = cause_of_stall("silence", "a link to context rank 1");
    CHECK(cause.at("who") == "context/1" + process_text(context[1]));
}

TEST_CASE("trace why, live: nothing is said of a request that is over") {
    two_ranks ranks;
    receive(ranks.generation, ranks.context.endpoint, ranks.asked);
    send(ranks.context, ranks.asked);
    expect_success(ranks.generation[0], ranks.asked, "mapped");
    expect_success(ranks.context[0], ranks.asked, "mapped");
    const auto said = run("trace why 7");
    CHECK_MESSAGE(contains(said.text, "is over"), said.text);
}

TEST_CASE("trace top, live: all sessions of all ranks are there, the one that ends first above") {
    two_ranks ranks;
    for (int rid : {7, 8, 9})
        REQUIRE(
            ranks.context[0]
                .ask({{"do", "open"}, {"rid", rid}, {"deadline_ms", rid == 8 ? 30'000 : 60'000}})
                .at("event")
            == "opened");
    const auto said = json::parse(run("trace top --rounds 1 --json").text);
    REQUIRE(said.at("ranks").size() == 2);
    CHECK(said.at("ranks")[0].at("rank") == "context/0");
    CHECK(said.at("ranks")[0].at("sessions") == json{{"INIT", 3}});
    CHECK(said.at("ranks")[1].at("sessions").empty());
    REQUIRE(said.at("sessions").size() == 3);
    CHECK(said.at("sessions")[0].at("rid") == 8);
    CHECK(said.at("sessions")[0].at("deadline_in_ns") < 30'000'000'000);
    CHECK(said.at("sessions")[0].at("waits")[0].at("who") == "host");
    const auto text = run("trace top --rounds 2 --every 10ms --rows 2").text;
    CHECK(contains(text, "context/0: 3 INIT\ngeneration/0: no session\n"));
    CHECK(contains(text, "and 1 more, which have more time"));
}

TEST_CASE("trace record, live: ranks are joined; the limit stops it and is told") {
    init_types();
    two_ranks ranks;
    const auto folder = ranks.folder.path + "/run";
    auto* recorder = ::popen(
        (std::string{KVFERRY_PROGRAM} + " trace record --for 60s --limit 60 -o " + folder).c_str(),
        "r");
    REQUIRE(recorder);
    for (std::uint64_t rid = 1; rid < 200; ++rid) { // until the recorder has enough
        const auto x = whole_blocks(rid, 1, 16);
        receive(ranks.generation, ranks.context.endpoint, x);
        send(ranks.context, x);
        expect_success(ranks.generation[0], x, "mapped");
        expect_success(ranks.context[0], x, "mapped");
    }
    std::string said;
    char bytes[512];
    while (std::fgets(bytes, sizeof bytes, recorder))
        said += bytes;
    CHECK(WEXITSTATUS(::pclose(recorder)) == 0);
    CHECK_MESSAGE(contains(said, "STOPPED EARLY: the limit of 60 events was reached"), said);
    const auto read = tracing::read_run(folder);
    REQUIRE(read);
    CHECK(read->problems.empty());
    std::size_t events = 0;
    for (const auto& x : read->recordings) {
        CHECK(x.joined_late);
        CHECK(x.problems.empty());
        events += x.events.size();
    }
    CHECK(events <= 60);
}

TEST_CASE(
    "trace record, live: a rank that dies or is frozen meanwhile is told, and what the others "
    "did is there") {
    two_ranks ranks;
    const auto folder = ranks.folder.path + "/run";
    auto* recorder = ::popen(
        (std::string{KVFERRY_PROGRAM} + " trace record --for 4s --limit 100000 -o " + folder)
            .c_str(),
        "r");
    REQUIRE(recorder);
    ranks.generation[0].freeze();
    while (!std::filesystem::exists(folder) || std::filesystem::is_empty(folder)) {
    }
    ranks.context[0].kill();
    std::string said;
    char bytes[512];
    while (std::fgets(bytes, sizeof bytes, recorder))
        said += bytes;
    ::pclose(recorder);
    CHECK_MESSAGE(contains(said, "died"), said);
    CHECK_MESSAGE(contains(said, "is stopped by a signal"), said);
    ranks.generation[0].thaw();
}

TEST_CASE("trace, live: without processes it says where it looked, at once") {
    live_folder folder;
    for (const char* command : {"trace why 7", "trace record --limit 5 -o /tmp/kvferry-no-run"}) {
        const auto said = run(command);
        CHECK(said.status == 1);
        CHECK_MESSAGE(contains(said.text, folder.path), said.text);
    }
    CHECK(run("trace record -o /tmp/kvferry-no-run").status == 2);
}

} // namespace kvferry::testing
