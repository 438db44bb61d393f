// SPDX-License-Identifier: Apache-2.0
// Measures who can still write into a target's memory after a death, a freeze or a forced close,
// over UCX and over a memfd mapping, and fails when a fact the release rules need is not seen.
#include "board.hpp"
#include "finding.hpp"
#include "roles.hpp"

#include <CLI/CLI.hpp>
#include <ucp/api/ucp.h>

#include <csignal>
#include <iostream>
#include <set>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

namespace {

using namespace experiment;

int play(const std::string& role, const std::vector<int>& fds) {
    if (role == "holder") {
        alarm(static_cast<unsigned>(child_life_max.count()));
        pause();
        return 0;
    }
    const auto size_of = [](int fd) {
        struct stat s {};
        check_posix(fstat(fd, &s) == 0, "fstat");
        return static_cast<std::size_t>(s.st_size);
    };
    shared_memory board_memory(fds.at(0), size_of(fds.at(0)));
    shared_memory region(fds.at(1), size_of(fds.at(1)));
    auto& shared = *reinterpret_cast<board*>(board_memory.data());
    auto& desk = role == "target" ? shared.target : shared.writer;
    try {
        if (role == "writer")
            run_writer(shared, region);
        else if (role == "target")
            run_target(shared, region);
        else
            run_mapped_writer(shared, region,
                              static_cast<mapped_writer>(std::stoi(role.substr(14))));
    } catch (const std::exception& e) {
        std::strncpy(desk.failure.data(), e.what(), desk.failure.size() - 1);
        return 1;
    }
    return 0;
}

void print(const std::string& name, const finding& f) {
    std::cout << "| " << (f.transport.empty() ? "-" : f.transport) << " | " << f.event << " | "
              << f.writer_told << " | " << f.target_told << " | " << f.landed_after << " | "
              << (f.holds ? "" : "**FAILED** ") << f.conclusion << " | " << name << " |"
              << std::endl;
}

void print_conditions(int rounds) {
    unsigned major = 0, minor = 0, release = 0;
    ucp_get_version(&major, &minor, &release);
    utsname kernel{};
    uname(&kernel);
    std::cout << "UCX " << major << '.' << minor << '.' << release << ", Linux " << kernel.release
              << ", " << sysconf(_SC_NPROCESSORS_ONLN) << " processors, rounds " << rounds
              << ", times are counted from the event\n\n"
              << "| transports | event | writer is told | target is told | bytes after the event "
                 "| conclusion | case |\n|---|---|---|---|---|---|---|\n";
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Who can still write into my memory?\n"
        "Two processes, a writer and a target; the writer puts into the target's memory\n"
        "by UCX or copies into a memfd mapping of it. In the middle one of them is killed,\n"
        "frozen or cut off, and the referee watches the memory. One table row per case;\n"
        "the exit status is 1 when a fact that the release rules depend on was not seen.\n"
        "Try: who_still_writes --all    or    who_still_writes --case kill-writer\n"};
    std::vector<std::string> wanted;
    std::vector<std::string> transports{"tcp"};
    int rounds = 1;
    bool all = false, list = false;
    std::string role;
    std::vector<int> fds;
    app.add_option("--case", wanted, "run these cases only (see --list)");
    app.add_flag("--all", all, "run every case on every transport selection");
    app.add_flag("--list", list, "name the cases and stop");
    app.add_option("--transports", transports, "values of UCX_TLS, each one is a selection")
        ->delimiter(';')
        ->capture_default_str();
    app.add_option("--rounds", rounds, "how often each case is repeated (mapped kills: 20-40 x)")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    app.add_option("--role", role)->group("");
    app.add_option("--fd", fds)->group("");
    CLI11_PARSE(app, argc, argv);
    if (!role.empty())
        return play(role, fds);

    std::vector<test_case> cases = mapped_cases();
    for (auto* more : {&silence_cases, &death_cases})
        std::ranges::move((*more)(), std::back_inserter(cases));
    if (list) {
        for (const auto& c : cases)
            std::cout << c.name << ": " << c.what << '\n';
        return 0;
    }
    if (!all && wanted.empty()) {
        std::cout << app.help();
        return 0;
    }
    for (const auto& name : wanted)
        if (std::ranges::none_of(cases, [&](const auto& c) { return c.name == name; })) {
            std::cerr << "no case is called '" << name << "'; --list names them\n";
            return 2;
        }

    prctl(PR_SET_CHILD_SUBREAPER, 1); // a writer's forked child comes to us when the writer dies
    print_conditions(rounds);
    bool good = true;
    for (const auto& c : cases) {
        if (!all && std::ranges::find(wanted, c.name) == wanted.end())
            continue;
        std::vector<std::string> selections = transports;
        if (!c.needs_ucx || !c.only_transports.empty())
            selections = {c.only_transports};
        for (const auto& selection : selections) {
            finding result;
            try {
                result = c.run(selection, rounds);
            } catch (const std::exception& e) {
                result = {selection, c.what, "-", "-", "-", e.what(), false};
            }
            print(c.name, result);
            good = good && result.holds;
        }
    }
    return good ? 0 : 1;
}
