// SPDX-License-Identifier: Apache-2.0
// Ranks as containers run them: as process 1, and with a log that nobody reads.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/other_program.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <unistd.h>

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

// -- process 1 ----------------------------------------------------------------------------------

const launch as_process_1{{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}};

std::vector<pid_t> children_of(pid_t process) {
    std::vector<pid_t> result;
    const auto tasks = "/proc/" + std::to_string(process) + "/task";
    std::error_code gone;
    for (const auto& task : std::filesystem::directory_iterator{tasks, gone}) {
        std::ifstream list{task.path() / "children"};
        for (pid_t child = 0; list >> child;)
            result.push_back(child);
    }
    return result;
}

/// The program that the launcher has started, once it has.
pid_t process_1_of(pid_t launcher) {
    const auto until = clock::now() + 20s;
    std::vector<pid_t> found;
    while ((found = children_of(launcher)).empty())
        REQUIRE(clock::now() < until);
    return found.front();
}

/// The program handles SIGTERM before everything else.
bool is_ours_and_handles(pid_t process, int signal) {
    std::string name;
    std::getline(std::ifstream{"/proc/" + std::to_string(process) + "/comm"}, name);
    if (name != "kvferry")
        return false;
    std::ifstream status{"/proc/" + std::to_string(process) + "/status"};
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("SigCgt:"))
            return (std::stoull(line.substr(7), nullptr, 16) >> (signal - 1) & 1) != 0;
    return false;
}

#define REQUIRE_NAMESPACES()                                                                       \
    if (!shell("unshare --pid --fork --mount-proc true")) {                                        \
        MESSAGE("pid namespaces cannot be made here: needs root and util-linux");                  \
        return;                                                                                    \
    }

} // namespace

TEST_CASE("container: as process 1 a rank buries the orphans of its container, and SIGTERM ends it "
          "with 143 within its deadline") {
    REQUIRE_NAMESPACES();
    rank_process rank{{"--instance", "alone", "--drain-deadline", "5000"}, as_process_1};
    REQUIRE(rank.ready().at("pid") == 1);
    const auto process = process_1_of(rank.pid());
    // The pipe's reader ends after the orphan, which holds its other end.
    REQUIRE(shell("nsenter --target " + std::to_string(process)
                  + " --pid sh -c '(sh -c \"exit 0\" &)' | cat"));
    const auto until = clock::now() + 20s;
    while (!children_of(process).empty()) {
        rank.ask({{"do", "statistics"}});
        REQUIRE(clock::now() < until);
    }
    rank.ask({{"do", "open"}, {"rid", 1}}); // nobody asks for it
    ::kill(process, SIGTERM);
    const auto outcome = rank.outcome(1);
    CHECK(outcome.at("error").at("text").get<std::string>().find("draining") != std::string::npos);
    CHECK(rank.wait_for("stopped").at("unproven").empty());
    CHECK(rank.wait_for_end() == 128 + SIGTERM);
    CHECK(::kill(process, 0) != 0); // not even a zombie
}

TEST_CASE("container: SIGTERM ends a rank that has not started yet, also as process 1") {
    const std::vector<std::string> waits_for_rank_0{
        "--instance", "alone", "--layout", "tp=2,tp_rank=1", "--info-endpoint", "127.0.0.1:1"};
    const auto expect_end = [](rank_process& rank, pid_t process) {
        const auto until = clock::now() + 20s;
        while (!is_ours_and_handles(process, SIGTERM))
            REQUIRE(clock::now() < until);
        ::kill(process, SIGTERM);
        CHECK(rank.wait_for_end() == 128 + SIGTERM);
    };
    rank_process alone{waits_for_rank_0};
    expect_end(alone, alone.pid());
    REQUIRE_NAMESPACES();
    rank_process rank{waits_for_rank_0, as_process_1};
    expect_end(rank, process_1_of(rank.pid()));
}

TEST_CASE("container: SIGTERM and SIGINT end whatever subcommand is process 1") {
    REQUIRE_NAMESPACES();
    auto words = as_process_1.under;
    for (const char* word : {KVFERRY_PROGRAM, "bench", "soak", "--requests", "1000000000"})
        words.emplace_back(word);
    for (const int signal : {SIGTERM, SIGINT}) {
        CAPTURE(signal);
        program soak{words};
        const auto process = process_1_of(soak.pid());
        const auto until = clock::now() + 20s;
        while (!is_ours_and_handles(process, signal))
            REQUIRE(clock::now() < until);
        ::kill(process, signal);
        const auto status = soak.status();
        CHECK(WIFEXITED(status));
        CHECK(WEXITSTATUS(status) == 128 + signal);
    }
}

// -- a log that nobody reads --------------------------------------------------------------------

namespace {

/// A pipe that takes nothing any more, until somebody reads.
class full_pipe {
public:
    full_pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        read_ = unique_fd{ends[0]};
        write_ = unique_fd{ends[1]};
        // Opened again: whoever inherits the writing end must be held up by a full pipe.
        const unique_fd filler{::open(("/proc/self/fd/" + std::to_string(write_.get())).c_str(),
                                      O_WRONLY | O_NONBLOCK | O_CLOEXEC)};
        const std::string page(4096, '\n');
        while (::write(filler.get(), page.data(), page.size()) > 0)
            ;
        while (::write(filler.get(), "\n", 1) > 0)
            ;
        REQUIRE(errno == EAGAIN);
    }

    int write_end() const { return write_.get(); }

    /// Reads until this has come; what was read, in any case.
    std::string read_until(const std::string& wanted) {
        std::string result;
        const auto until = clock::now() + 20s;
        while (result.find(wanted) == result.npos && clock::now() < until) {
            pollfd waiting{read_.get(), POLLIN, 0};
            if (::poll(&waiting, 1, 20000) != 1)
                break;
            std::array<char, 4096> buffer;
            const auto bytes = ::read(read_.get(), buffer.data(), buffer.size());
            if (bytes <= 0)
                break;
            result.append(buffer.data(), static_cast<std::size_t>(bytes));
        }
        return result;
    }

private:
    unique_fd read_;
    unique_fd write_;
};

/// Each session is two lines of the log at this level.
constexpr int sessions_that_fill_the_log = 2500;

} // namespace

TEST_CASE("container: a standard error that nobody reads delays no session, no deadline and no "
          "end; lines that were dropped are told when somebody reads") {
    full_pipe read_later, read_never;
    const auto talkative = [](const std::string& name, const full_pipe& log) {
        return instance_processes::options{
            name, 1, 1, small_model, 64, {}, {{"env", "KVFERRY_LOG=info"}, log.write_end()}};
    };
    instance_processes context{talkative("context", read_later)};
    instance_processes generation{talkative("generation", read_never)};
    const auto x = whole_blocks(1, 2, 16);
    send(context, x);
    receive(generation, context.endpoint, x);
    expect_success(generation[0], x, "");
    expect_content(generation[0], x);
    receive(generation, context.endpoint, whole_blocks(2, 2, 16), {{"deadline_ms", 300}});
    CHECK(generation[0].outcome(2).at("error").at("code") == "deadline_exceeded");
    for (int i = 0; i < sessions_that_fill_the_log; ++i) {
        const auto rid = static_cast<std::uint64_t>(i) + 100;
        context[0].ask({{"do", "open"}, {"rid", rid}});
        context[0].ask({{"do", "cancel"}, {"rid", rid}});
        context[0].released(rid);
    }
    const auto log = read_later.read_until("lines of the log were dropped");
    CHECK(log.find("lines of the log were dropped") != log.npos);
    expect_clean_stop(context);
    expect_clean_stop(generation); // its log is full to the end
}

} // namespace kvferry::testing
