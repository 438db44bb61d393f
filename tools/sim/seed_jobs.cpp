// SPDX-License-Identifier: Apache-2.0
// Children that run seeds and report over a pipe; the parent starts the next one where one died.
#include "tools/sim/seed_jobs.hpp"

#include "messages/trace/trace.hpp"
#include "tests/harness/arena.hpp"

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <signal.h>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace kvferry::sim {

namespace {

/// A seed takes milliseconds. One that takes this long is stuck.
constexpr unsigned seed_seconds_max = 60;
/// Each child writes at most this many event logs of failures.
constexpr int traces_max = 20;
constexpr std::uint64_t twice_each = 16;

struct child {
    pid_t process = -1;
    int pipe = -1;
    std::string unread;
    /// The first seed whose result has not arrived.
    std::uint64_t next = 0;
};

void say(int to, const std::string& line) {
    auto text = line + "\n";
    for (std::size_t done = 0; done < text.size();) {
        auto written = ::write(to, text.data() + done, text.size() - done);
        if (written <= 0)
            ::_exit(1); // the parent is gone
        done += static_cast<std::size_t>(written);
    }
}

void write_trace(const options& asked, std::uint64_t seed, const harness::verdict& seen) {
    std::error_code ignored; // a failure shows when the file is opened
    if (!asked.trace_folder.empty())
        std::filesystem::create_directories(asked.trace_folder, ignored);
    std::ofstream file{trace_path(asked, seed)};
    for (const auto& line : seen.log)
        file << line << "\n";
}

/// Runs every `jobs`-th seed from `first` on.
[[noreturn]] void run_child(const options& asked, const make_scenario& make, std::uint64_t first,
                            int to) {
    if (asked.recording.empty()) { // nobody reads events
        trace::enable(false);
        trace::use_clock([] { return std::uint64_t{0}; });
    }
    harness::arena arena;
    int traces = 0;
    for (auto seed = first; seed < asked.from + asked.seeds; seed += asked.jobs) {
        ::alarm(seed_seconds_max);
        auto plan = make(seed);
        auto twice = asked.twice || seed % twice_each == 0;
        auto seen = !asked.recording.empty() ? arena.run_recorded(plan, asked.recording)
                    : twice                  ? arena.run_twice(plan)
                                             : arena.run(plan);
        for (const auto& rare : seen.reached)
            say(to, "R " + rare);
        if (asked.keep_logs && seen.what == harness::failure::none)
            write_trace(asked, seed, arena.run(plan, true));
        if (seen.what == harness::failure::none) {
            say(to, "P");
            continue;
        }
        if (++traces <= traces_max) {
            auto again = arena.run(plan, true);
            if (again.digest != seen.digest && seen.what != harness::failure::not_deterministic) {
                seen.what = harness::failure::not_deterministic;
                seen.text += " (and not so when it ran again)";
            }
            write_trace(asked, seed, again);
        }
        for (auto& letter : seen.text)
            if (letter == '\n')
                letter = ' ';
        say(to, "F " + std::to_string(static_cast<int>(seen.what)) + " " + seen.text);
    }
    ::_exit(0); // skips destructors of objects copied from the parent
}

child start_child(const options& asked, const make_scenario& make, std::uint64_t first) {
    int ends[2];
    if (::pipe(ends) != 0) {
        std::perror("kvferry-sim: pipe");
        std::exit(1);
    }
    std::fflush(nullptr);
    auto process = ::fork();
    if (process < 0) {
        std::perror("kvferry-sim: fork");
        std::exit(1);
    }
    if (process == 0) {
        ::close(ends[0]);
        run_child(asked, make, first, ends[1]);
    }
    ::close(ends[1]);
    return {process, ends[0], {}, first};
}

/// True when the child sent something.
bool read_from(child& from) {
    char buffer[4096];
    auto count = ::read(from.pipe, buffer, sizeof buffer);
    if (count > 0)
        from.unread.append(buffer, static_cast<std::size_t>(count));
    return count > 0;
}

std::string manner_of_death(int status) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return "the process hung";
    if (WIFSIGNALED(status))
        return "the process was ended by signal " + std::to_string(WTERMSIG(status));
    return "the process exited with status " + std::to_string(WEXITSTATUS(status));
}

} // namespace

std::string trace_path(const options& asked, std::uint64_t seed) {
    auto name = "kvferry-sim-" + (asked.scenario.empty() ? std::string{} : asked.scenario + "-")
                + (asked.bug.empty() ? std::string{} : asked.bug + "-") + std::to_string(seed)
                + ".log";
    auto folder = asked.trace_folder.empty() ? std::filesystem::temp_directory_path()
                                             : std::filesystem::path{asked.trace_folder};
    return (folder / name).string();
}

outcome run_seeds(const options& asked, const make_scenario& make,
                  const std::function<void(std::uint64_t, const seed_failure&)>& failed) {
    outcome result;
    const auto began = std::chrono::steady_clock::now();
    const auto end = asked.from + asked.seeds;
    std::vector<child> children;
    for (unsigned job = 0; job < asked.jobs && asked.from + job < end; ++job)
        children.push_back(start_child(asked, make, asked.from + job));
    bool enough = false;
    auto note = [&](std::uint64_t seed, seed_failure what) {
        failed(seed, what);
        result.failed.emplace(seed, std::move(what));
        enough = !asked.bug.empty();
    };
    auto take_lines = [&](child& from) {
        for (std::size_t at; !enough && (at = from.unread.find('\n')) != std::string::npos;) {
            std::istringstream line{from.unread.substr(0, at)};
            from.unread.erase(0, at + 1);
            char kind = 0;
            line >> kind;
            std::string rest;
            if (kind == 'R') {
                std::getline(line >> std::ws, rest);
                ++result.reached[rest];
                continue;
            }
            auto seed = from.next;
            from.next += asked.jobs;
            if (kind == 'P') {
                ++result.passed;
                continue;
            }
            int what = 1;
            line >> what;
            std::getline(line >> std::ws, rest);
            note(seed, {static_cast<harness::failure>(what), rest});
        }
    };
    while (!children.empty() && !enough) {
        std::vector<pollfd> ready;
        ready.reserve(children.size());
        for (const auto& each : children)
            ready.push_back({each.pipe, POLLIN, 0});
        ::poll(ready.data(), ready.size(), -1);
        for (std::size_t index = ready.size(); index-- > 0 && !enough;) {
            if (ready[index].revents == 0)
                continue;
            auto& each = children[index];
            if (read_from(each)) {
                take_lines(each);
                continue;
            }
            int status = 0;
            ::waitpid(each.process, &status, 0);
            ::close(each.pipe);
            auto next = each.next;
            children.erase(children.begin() + static_cast<std::ptrdiff_t>(index));
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                continue;
            auto hung = WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
            note(next, {hung ? harness::failure::stuck : harness::failure::assertion,
                        manner_of_death(status)});
            if (next + asked.jobs < end && !enough)
                children.push_back(start_child(asked, make, next + asked.jobs));
        }
    }
    for (auto& each : children) {
        ::kill(each.process, SIGKILL);
        ::waitpid(each.process, nullptr, 0);
        ::close(each.pipe);
    }
    result.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    return result;
}

} // namespace kvferry::sim
