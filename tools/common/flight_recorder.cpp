// SPDX-License-Identifier: Apache-2.0
// A thread that waits for a reason, and the signal handlers that give it one.
#include "tools/common/flight_recorder.hpp"

#include "actors/observe/process_files.hpp"
#include "actors/observe/trace_recording.hpp"
#include "messages/trace/log.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace kvferry::tools {

namespace {

constexpr std::array signals{SIGTERM, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
/// How long a dying thread waits: the writing thread may need a lock that the crashed thread holds.
constexpr int patience_ms = 2000;

constinit std::atomic<int> wake_fd{-1};
constinit std::atomic<int> fatal{0};
constinit std::atomic<bool> written{false};
constinit std::atomic<bool> ending{false};
/// The newest reason that is not yet written. Taking it out also takes over its ownership.
constinit std::atomic<std::string*> reason{nullptr};

/// In a signal handler: only system calls and atomics.
void on_signal(int number) {
    int none = 0;
    if (fatal.compare_exchange_strong(none, number)) {
        ::eventfd_write(wake_fd, 1);
        for (int waited = 0; waited < patience_ms && !written; waited += 10) {
            const timespec pause{0, 10'000'000};
            ::nanosleep(&pause, nullptr);
        }
    }
    if (::getpid() == 1) // the kernel spares process 1 of a container
        ::_exit(128 + number);
    std::signal(number, SIG_DFL);
    std::raise(number);
}

auto handler_of(int number) {
    struct sigaction now {};
    ::sigaction(number, nullptr, &now);
    return now.sa_handler;
}

/// Removes the oldest files, so that the folder does not grow with every failure.
void forget_old(const std::string& folder) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    std::vector<std::pair<fs::file_time_type, fs::path>> files;
    for (const auto& entry : fs::directory_iterator{folder, ignored})
        if (entry.path().extension() == ".kvtrace" && entry.is_regular_file(ignored))
            files.emplace_back(entry.last_write_time(ignored), entry.path());
    if (files.size() <= flight_recorder::files_max)
        return;
    std::sort(files.begin(), files.end());
    files.resize(files.size() - flight_recorder::files_max);
    for (const auto& [time, path] : files)
        fs::remove(path, ignored);
}

} // namespace

std::string flight_recorder::folder() {
    if (const char* wanted = std::getenv("KVFERRY_FLIGHT"))
        return wanted;
    std::error_code ignored;
    return (std::filesystem::temp_directory_path(ignored)
            / ("kvferry-flight-" + std::to_string(::geteuid())))
        .string();
}

caf::expected<std::unique_ptr<flight_recorder>>
flight_recorder::start(std::string name, std::string folder, sigterm on_sigterm) {
    // A folder that the user names may be shared; one among the temporary files must not be.
    if (std::getenv("KVFERRY_FLIGHT") == nullptr)
        if (auto problem = make_private_folder(folder, "KVFERRY_FLIGHT"))
            return problem;
    unique_fd wake{::eventfd(0, EFD_CLOEXEC)};
    if (!wake)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    std::unique_ptr<flight_recorder> result{
        new flight_recorder{std::move(name), std::move(folder), std::move(wake)}};
    fatal = 0;
    written = false;
    ending = false;
    wake_fd = result->wake_.get();
    auto thread = make_thread("the flight recorder", [self = result.get()] { self->run(); });
    if (!thread)
        return std::move(thread.error());
    result->thread_ = std::move(*thread);
    for (auto number : signals)
        if (number != SIGTERM || on_sigterm == sigterm::writes)
            std::signal(number, on_signal);
    return result;
}

flight_recorder::flight_recorder(std::string name, std::string folder, unique_fd wake)
    : name_(std::move(name)), folder_(std::move(folder)), wake_(std::move(wake)) {}

flight_recorder::~flight_recorder() {
    for (auto number : signals)
        if (handler_of(number) == on_signal)
            std::signal(number, SIG_DFL);
    wake_fd = -1;
    ending = true;
    ::eventfd_write(wake_.get(), 1);
    if (thread_.joinable())
        thread_.join();
    delete reason.exchange(nullptr);
}

void flight_recorder::failed(const std::string& why) {
    const int fd = wake_fd;
    if (fd < 0)
        return;
    delete reason.exchange(new std::string{why});
    ::eventfd_write(fd, 1);
}

void flight_recorder::run() {
    for (bool last = false; !last;) {
        eventfd_t count = 0;
        ::eventfd_read(wake_.get(), &count);
        last = ending; // read before the reason is taken, so that no earlier reason is lost
        const int number = fatal;
        std::unique_ptr<std::string> why{reason.exchange(nullptr)};
        if (number != 0)
            why = std::make_unique<std::string>("signal " + std::to_string(number));
        if (!why)
            continue;
        if (auto path = dump_trace(folder_, name_, *why))
            logger().error("{}: the last events are in {}; kvferry trace show {} prints them", *why,
                           *path, *path);
        else
            logger().error("{}: the last events cannot be written: {}", *why,
                           describe(path.error()));
        if (number != 0) {
            logger().flush();
            written = true;
        } else {
            forget_old(folder_);
        }
    }
}

} // namespace kvferry::tools
