// SPDX-License-Identifier: Apache-2.0
// Paths of the listener, and what /proc says of the process.
#include "actors/metrics/process_metrics.hpp"

#include "actors/metrics/accept_header.hpp"
#include "actors/metrics/exposition.hpp"
#include "actors/metrics/rank_exposition.hpp"
#include "messages/values/error_format.hpp"
#include "messages/version.hpp"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <sys/resource.h>
#include <unistd.h>

namespace kvferry {

namespace {

std::mutex& process_mutex() {
    static auto& mutex = *new std::mutex; // ranks may end after static objects
    return mutex;
}

std::weak_ptr<process_metrics>& of_process() {
    static auto& shared = *new std::weak_ptr<process_metrics>;
    return shared;
}

/// When the process began, since 1970, from the kernel's count of ticks since the machine's start.
double started_at() {
    std::ifstream stat{"/proc/self/stat"};
    std::string text{std::istreambuf_iterator<char>{stat}, {}};
    const auto name_end = text.rfind(')');
    if (name_end == text.npos)
        return 0;
    constexpr int fields_before = 19; // between the name and starttime
    std::size_t at = name_end + 1;
    for (int count = 0; count < fields_before && at != text.npos; ++count)
        at = text.find(' ', at + 1);
    if (at == text.npos)
        return 0;
    const auto ticks = std::strtoull(text.c_str() + at, nullptr, 10);
    timespec since_boot{};
    timespec since_1970{};
    ::clock_gettime(CLOCK_BOOTTIME, &since_boot);
    ::clock_gettime(CLOCK_REALTIME, &since_1970);
    const auto seconds = [](const timespec& x) {
        return static_cast<double>(x.tv_sec) + static_cast<double>(x.tv_nsec) / 1e9;
    };
    return seconds(since_1970) - seconds(since_boot)
           + static_cast<double>(ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

process_facts facts_of_process() {
    process_facts result;
    result.version = version();
    std::error_code ignored;
    for ([[maybe_unused]] const auto& entry :
         std::filesystem::directory_iterator{"/proc/self/fd", ignored})
        ++result.descriptors_open;
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0)
        result.descriptors_max = limit.rlim_cur;
    timespec cpu{};
    if (::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        result.cpu_seconds =
            static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9;
    std::uint64_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> pages >> pages;
    result.resident_bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    static const double began = started_at();
    result.started_at = began;
    return result;
}

} // namespace

caf::expected<std::shared_ptr<process_metrics>> process_metrics::at(const std::string& endpoint) {
    std::lock_guard lock{process_mutex()};
    if (auto known = of_process().lock()) {
        const bool any_port = endpoint.ends_with(":0");
        if (any_port || endpoint == known->asked_for_ || endpoint == known->endpoint())
            return known;
        return make_error(errc::invalid_argument,
                          "this process shows its metrics at {} already, not at {}: all its ranks "
                          "share one listener",
                          known->endpoint(), endpoint.substr(0, 300));
    }
    std::shared_ptr<process_metrics> made{new process_metrics};
    auto listener = http_listener::start(
        endpoint, [self = made.get()](const http_request& x) { return self->answer(x); });
    if (!listener)
        return std::move(listener.error());
    made->asked_for_ = endpoint;
    made->listener_ = std::move(*listener);
    of_process() = made;
    return made;
}

void process_metrics::add(observed_rank& rank) {
    std::lock_guard lock{mutex_};
    ranks_.push_back(&rank);
}

void process_metrics::remove(observed_rank& rank) {
    std::lock_guard lock{mutex_};
    std::erase(ranks_, &rank);
}

http_answer process_metrics::answer(const http_request& request) {
    const auto path = request.path;
    if (path == "/metrics") {
        const auto process = facts_of_process();
        std::vector<rank_facts> ranks;
        std::lock_guard lock{mutex_};
        for (const auto* rank : ranks_)
            ranks.push_back(rank->facts());
        const auto as = format_for(request.accept);
        return {200, exposition::content_type(as), exposition_of(process, ranks, as)};
    }
    if (path == "/livez")
        return probe(&observed_rank::why_not_live);
    if (path == "/readyz")
        return probe(&observed_rank::why_not_ready);
    return {404, "text/plain; charset=utf-8", "/metrics, /livez or /readyz\n"};
}

http_answer
process_metrics::probe(std::string (observed_rank::*why_not)(std::chrono::milliseconds)) {
    const auto until = std::chrono::steady_clock::now() + probe_deadline;
    std::string problems;
    std::lock_guard lock{mutex_};
    for (auto* rank : ranks_) {
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
        const auto problem = (rank->*why_not)(std::max(left, std::chrono::milliseconds{0}));
        if (!problem.empty())
            problems += problem + "\n";
    }
    if (ranks_.empty() && why_not == &observed_rank::why_not_ready)
        problems = "no rank has started\n";
    http_answer result;
    result.status = problems.empty() ? 200 : 503;
    result.body = problems.empty() ? "ok\n" : std::move(problems);
    return result;
}

} // namespace kvferry
