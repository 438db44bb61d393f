// SPDX-License-Identifier: Apache-2.0
// A thread that empties the rings often enough, and the file that it writes.
#include "actors/observe/trace_recording.hpp"

#include "actors/observe/process_files.hpp"
#include "messages/trace/log.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"
#include "transport/same_host/machine_id.hpp"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

/// A new file: never one that is there already, and never through a link, which would let somebody
/// else choose what this process overwrites.
caf::expected<unique_fd> create(const std::string& folder, const std::string& path) {
    std::error_code ignored; // open() gives the better error
    std::filesystem::create_directories(folder, ignored);
    unique_fd file{
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
    if (!file)
        return system_error(errc::system_call_failed, "open " + path,
                            "name a folder that can be written");
    return file;
}

std::string path_of(const std::string& folder, const std::string& name) {
    return folder + "/" + process_file_name(name) + ".kvtrace";
}

bool write_all(int fd, const std::vector<std::byte>& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const auto count = ::write(fd, bytes.data() + at, bytes.size() - at);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return false;
        at += static_cast<std::size_t>(count);
    }
    return true;
}

} // namespace

caf::expected<std::unique_ptr<trace_recording>> trace_recording::start(const std::string& folder,
                                                                       const std::string& name) {
    trace::keep_events(trace::ring_events_recorded);
    static int started = 0; // one at a time; a second one of this process is a file of its own
    auto path = path_of(folder, ++started == 1 ? name : name + "-" + std::to_string(started));
    auto file = create(folder, path);
    if (!file)
        return std::move(file.error());
    unique_fd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!stop)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    std::unique_ptr<trace_recording> result{
        new trace_recording{std::move(path), std::move(*file), std::move(stop)}};
    result->write(result->encoder_.begin(
        trace::first_clock(), static_cast<std::uint32_t>(::getpid()), name, machine_id()));
    auto thread = make_thread("a recording", [self = result.get()] { self->run(); });
    if (!thread)
        return std::move(thread.error());
    result->thread_ = std::move(*thread);
    return result;
}

trace_recording::trace_recording(std::string path, unique_fd file, unique_fd stop)
    : path_(std::move(path)), file_(std::move(file)), stop_(std::move(stop)) {}

trace_recording::~trace_recording() {
    ::eventfd_write(stop_.get(), 1);
    if (thread_.joinable())
        thread_.join();
    trace::keep_events(trace::ring_events);
    write_new_events();
    write(encoder_.end(trace::ended_complete));
}

void trace_recording::run() {
    pollfd watched{stop_.get(), POLLIN, 0};
    while (::poll(&watched, 1, trace_collect_ms) <= 0)
        write_new_events();
}

void trace_recording::write_new_events() {
    const auto threads = events_.collect();
    if (!threads.empty())
        write(encoder_.add(trace::clock_now(), threads));
}

/// A failed write ends the recording; what was written before stays readable.
void trace_recording::write(const std::vector<std::byte>& bytes) {
    if (!file_ || write_all(file_.get(), bytes))
        return;
    logger().error("the recording {} ends here: {}", path_,
                   describe(system_error(errc::system_call_failed, "write")));
    file_ = unique_fd{};
}

caf::expected<std::string> dump_trace(const std::string& folder, const std::string& name,
                                      const std::string& why) {
    auto path = path_of(folder, name);
    const auto unfinished = path + "~";
    ::unlink(unfinished.c_str()); // of an earlier call that could not write all
    auto file = create(folder, unfinished);
    if (!file)
        return std::move(file.error());
    trace::recording_encoder encoder;
    trace::collector events;
    auto bytes = encoder.begin(trace::first_clock(), static_cast<std::uint32_t>(::getpid()), name,
                               machine_id());
    for (const auto& part : {encoder.add(trace::clock_now(), events.collect()), encoder.end(why)})
        bytes.insert(bytes.end(), part.begin(), part.end());
    if (!write_all(file->get(), bytes) || ::rename(unfinished.c_str(), path.c_str()) != 0)
        return system_error(errc::system_call_failed, "write " + path);
    return path;
}

} // namespace kvferry
