// SPDX-License-Identifier: Apache-2.0
// Runs a fuzzer's function with any compiler: on files, so that former findings stay fixed; and,
// with libFuzzer's words `-runs=N -seed=S -artifact_prefix=P`, on inputs that are drawn from them.
#include "tests/fuzz/fuzz.hpp"
#include "tests/fuzz/mutator.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace {

using kvferry::fuzz::input;

constexpr std::size_t bytes_max = 4096;
/// An input that takes longer is a finding.
constexpr unsigned seconds_max = 10;
/// So many inputs between two looks at the clock.
constexpr std::uint64_t inputs_per_alarm = 256;

/// What the function is working on, and the file for it should it not return.
const input* now = nullptr;
std::string finding;

void keep(int signal) {
    const int file = ::open(finding.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    std::size_t done = 0;
    while (file >= 0 && done < now->size()) {
        const auto sent = ::write(file, now->data() + done, now->size() - done);
        if (sent <= 0)
            break;
        done += static_cast<std::size_t>(sent);
    }
    constexpr char words[] = "a finding was kept as ";
    std::ignore = ::write(2, words, sizeof words - 1);
    std::ignore = ::write(2, finding.data(), finding.size());
    std::ignore = ::write(2, "\n", 1);
    std::signal(signal, SIG_DFL);
    ::raise(signal);
}

std::vector<input> inputs_in(const std::vector<std::string>& folders, bool tell) {
    std::vector<input> result;
    for (const auto& folder : folders) {
        std::error_code absent; // ignored: no finding yet
        for (const auto& entry : std::filesystem::directory_iterator{folder, absent}) {
            std::ifstream file{entry.path(), std::ios::binary};
            result.emplace_back(std::istreambuf_iterator<char>{file},
                                std::istreambuf_iterator<char>{});
            if (!tell)
                continue;
            std::cout << entry.path().string() << std::endl; // the last one is the finding
            LLVMFuzzerTestOneInput(result.back().data(), result.back().size());
        }
    }
    return result;
}

void run_drawn(std::vector<input> seeds, std::uint64_t count, std::uint64_t seed) {
    for (int each : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM})
        std::signal(each, &keep);
    kvferry::fuzz::mutator inputs{std::move(seeds), seed, bytes_max};
    for (std::uint64_t done = 0; done < count; ++done) {
        if (done % inputs_per_alarm == 0)
            ::alarm(seconds_max);
        now = &inputs.next();
        LLVMFuzzerTestOneInput(now->data(), now->size());
    }
    ::alarm(0);
    std::cout << "seed " << seed << ": " << count << " inputs\n";
}

} // namespace

int main(int argc, char** argv) {
    std::uint64_t runs = 0;
    std::uint64_t seed = 1;
    std::string prefix;
    std::vector<std::string> folders;
    for (int index = 1; index < argc; ++index) {
        const std::string_view word{argv[index]};
        const auto value = argv[index] + word.find('=') + 1; // all of it where there is none
        if (word.starts_with("-runs="))
            runs = std::strtoull(value, nullptr, 10);
        else if (word.starts_with("-seed="))
            seed = std::strtoull(value, nullptr, 10);
        else if (word.starts_with("-artifact_prefix="))
            prefix = value;
        else
            folders.emplace_back(word);
    }
    auto seeds = inputs_in(folders, runs == 0);
    if (runs > 0) {
        finding = prefix + "crash-" + std::to_string(seed);
        run_drawn(std::move(seeds), runs, seed);
        return 0;
    }
    std::cout << seeds.size() << " files\n";
    return seeds.empty() ? 1 : 0;
}
