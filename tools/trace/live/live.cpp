// SPDX-License-Identifier: Apache-2.0
// One poll loop over all processes. Checks every block before it writes it.
#include "tools/trace/live/live.hpp"

#include "messages/trace/trace_format.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/unique_fd.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <utility>

namespace kvferry::tracing {

namespace {

using clock = std::chrono::steady_clock;

/// Asks the kernel about the state of a process that does not answer.
std::string state_of(std::uint32_t process_id) {
    std::ifstream file{"/proc/" + std::to_string(process_id) + "/stat"};
    std::string text;
    std::getline(file, text);
    const auto name_end = text.rfind(')');
    const auto state = name_end + 2 < text.size() ? text[name_end + 2] : '?';
    const auto silent = "has not answered for " + std::to_string(silence_max.count()) + " s";
    return state == 'T' || state == 't' ? "is stopped by a signal and " + silent : silent;
}

struct process {
    live_process what;
    /// The socket's name, without its extension: no two are equal.
    std::string file;
    unique_fd socket;
    std::vector<std::byte> unread;
    clock::time_point heard = clock::now();
    bool over = false;

    void end(std::string problem) {
        what.problem = std::move(problem);
        socket.reset();
        over = true;
    }
};

/// A socket's file is called <name>-<process id>.<mark>.sock.
std::optional<process> connect(const std::filesystem::path& file) {
    const auto stem = file.stem().string();
    const auto dash = stem.rfind('-');
    process result;
    if (file.extension() != ".sock" || dash == stem.npos
        || std::from_chars(stem.data() + dash + 1, stem.data() + stem.size(),
                           result.what.process_id)
                   .ec
               != std::errc{})
        return {};
    result.what.name = stem.substr(0, dash);
    result.file = stem;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const auto path = file.string();
    if (path.size() >= sizeof address.sun_path)
        return {};
    std::copy(path.begin(), path.end(), address.sun_path);
    result.socket = unique_fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (::connect(result.socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address)
        == 0)
        return result;
    if (errno == ECONNREFUSED || errno == ENOENT) {
        // A killed process left this socket behind, or a new process does not listen on it yet.
        std::error_code ignored;
        if (::kill(static_cast<pid_t>(result.what.process_id), 0) != 0 && errno == ESRCH)
            std::filesystem::remove(file, ignored);
        return {};
    }
    result.end(errno == EAGAIN ? state_of(result.what.process_id) : "cannot be reached");
    return result;
}

caf::expected<std::vector<process>> connect_all(const std::string& sockets) {
    std::vector<process> result;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{sockets, ignored})
        if (auto found = connect(entry.path()))
            result.push_back(std::move(*found));
    if (result.empty())
        return make_error(errc::invalid_argument,
                          "no process of this user listens in {}: kvferry worker, demo and bench "
                          "do, a host that starts a trace_endpoint, each in its KVFERRY_TRACE_DIR",
                          sockets);
    std::sort(result.begin(), result.end(), [](const process& a, const process& b) {
        return std::pair{a.what.name, a.what.process_id}
               < std::pair{b.what.name, b.what.process_id};
    });
    return result;
}

/// Sends the question to all processes and hands over what they send, until all are over or the
/// time is up. Calls `took_bytes` with a process whose `unread` has grown; false stops everything.
void talk(std::vector<process>& all, const std::string& question, clock::time_point until,
          const std::function<bool(process&)>& took_bytes) {
    for (auto& x : all)
        if (!x.over
            && ::send(x.socket.get(), question.data(), question.size(), MSG_NOSIGNAL)
                   != static_cast<ssize_t>(question.size()))
            x.end("died");
    for (;;) {
        std::vector<pollfd> watched;
        auto next = until;
        for (const auto& x : all) {
            watched.push_back({x.over ? -1 : x.socket.get(), POLLIN, 0});
            if (!x.over)
                next = std::min(next, x.heard + silence_max);
        }
        const auto now = clock::now();
        if (now >= until || std::all_of(all.begin(), all.end(), [](auto& x) { return x.over; }))
            return;
        const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
        ::poll(watched.data(), watched.size(),
               static_cast<int>(std::clamp<std::int64_t>(wait, 0, 1000)));
        for (std::size_t i = 0; i < all.size(); ++i) {
            auto& x = all[i];
            if (x.over)
                continue;
            if (watched[i].revents == 0) {
                if (clock::now() - x.heard > silence_max)
                    x.end(state_of(x.what.process_id));
                continue;
            }
            std::byte bytes[65536];
            const auto count = ::recv(x.socket.get(), bytes, sizeof bytes, 0);
            if (count < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            x.heard = clock::now();
            if (count <= 0) {
                x.end("died");
                continue;
            }
            x.unread.insert(x.unread.end(), bytes, bytes + count);
            if (!took_bytes(x))
                return;
        }
    }
}

template <class Number>
Number number_at(const std::vector<std::byte>& from, std::size_t place) {
    std::uint64_t result = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        result |= static_cast<std::uint64_t>(from[place + i]) << (8 * i);
    return static_cast<Number>(result);
}

template <class Number>
void set_number_at(std::vector<std::byte>& to, std::size_t place, Number x) {
    for (std::size_t i = 0; i < sizeof(Number); ++i)
        to[place + i] = static_cast<std::byte>(static_cast<std::uint64_t>(x) >> (8 * i));
}

/// Where a block of events stores their number; the events follow.
constexpr auto count_at = trace::block_head_bytes + 12;

/// Takes whole blocks out of what a process sent. A recording's head counts as a block.
class block_splitter {
public:
    struct part {
        std::vector<std::byte> bytes;
        std::uint64_t events = 0;
        bool end = false;
    };

    std::optional<part> next(std::vector<std::byte>& from) {
        constexpr auto head_bytes = trace::recording_magic.size() + 4;
        auto size = head_bytes;
        part result;
        if (past_head_) {
            if (from.size() < trace::block_head_bytes)
                return {};
            const auto kind = static_cast<trace::block>(from[0]);
            size = trace::block_head_bytes + number_at<std::uint32_t>(from, 1);
            if (kind == trace::block::events && size >= count_at + 4 && from.size() >= count_at + 4)
                result.events = number_at<std::uint32_t>(from, count_at);
            result.end = kind == trace::block::end;
        }
        if (from.size() < size)
            return {};
        past_head_ = true;
        const auto end = from.begin() + static_cast<std::ptrdiff_t>(size);
        result.bytes.assign(from.begin(), end);
        from.erase(from.begin(), end);
        return result;
    }

private:
    bool past_head_ = false;
};

/// Cuts a block of events down to fewer events.
void keep_events(block_splitter::part& x, std::uint64_t events) {
    x.events = events;
    x.bytes.resize(count_at + 4 + events * trace::event_bytes);
    const auto payload_bytes = x.bytes.size() - trace::block_head_bytes;
    set_number_at(x.bytes, count_at, static_cast<std::uint32_t>(events));
    set_number_at(x.bytes, 1, static_cast<std::uint32_t>(payload_bytes));
    set_number_at(x.bytes, 5,
                  trace::checksum(static_cast<std::uint8_t>(trace::block::events),
                                  x.bytes.data() + trace::block_head_bytes, payload_bytes));
}

} // namespace

caf::expected<live_recording> record_live(const std::string& sockets, const std::string& run,
                                          std::chrono::milliseconds time,
                                          std::uint64_t events_max) {
    const auto began = clock::now();
    auto all = connect_all(sockets);
    if (!all)
        return std::move(all.error());
    std::error_code ignored; // a failure shows when the files are opened
    std::filesystem::create_directories(run, ignored);
    struct file {
        std::string path;
        std::ofstream out;
        block_splitter blocks;
    };
    std::vector<file> files;
    for (const auto& x : *all) {
        const auto path = run + "/" + x.file + ".kvtrace";
        files.push_back({path, std::ofstream{path, std::ios::binary}, {}});
        if (!files.back().out)
            return make_error(errc::system_call_failed, "{} cannot be written", path);
    }
    live_recording result;
    const auto write = [](file& to, process& from, const std::vector<std::byte>& bytes) {
        to.out.write(reinterpret_cast<const char*>(bytes.data()),
                     static_cast<std::streamsize>(bytes.size()));
        from.what.bytes += bytes.size();
    };
    talk(*all, "record\n", began + time, [&](process& x) {
        auto& file = files[static_cast<std::size_t>(&x - all->data())];
        while (auto part = file.blocks.next(x.unread)) {
            if (const auto room = events_max - result.events; part->events > room) {
                keep_events(*part, room);
                result.limit_tripped = true;
            }
            result.events += part->events;
            x.what.events += part->events;
            write(file, x, part->bytes);
            if (result.limit_tripped)
                return false;
            if (part->end) {
                x.end("ended");
                break;
            }
        }
        return true;
    });
    result.took = std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - began);
    for (std::size_t i = 0; i < files.size(); ++i) {
        auto& x = (*all)[i];
        // The recording of a process that died has no end block, and readers then report that.
        if (x.what.problem != "ended" && x.what.problem != "died" && x.what.bytes > 0)
            write(files[i], x,
                  trace::recording_encoder{}.end(
                      !x.what.problem.empty() ? std::string_view{x.what.problem}
                      : result.limit_tripped  ? trace::ended_by_limit
                                              : trace::ended_by_recorder));
        files[i].out.flush();
        if (!files[i].out)
            return make_error(errc::system_call_failed, "{} cannot be written", run);
        if (x.what.bytes == 0) // the process sent nothing in time
            std::filesystem::remove(files[i].path, ignored);
        result.processes.push_back(std::move(x.what));
    }
    return result;
}

caf::expected<live_answers> ask_live(const std::string& sockets, std::optional<std::uint64_t> rid) {
    auto all = connect_all(sockets);
    if (!all)
        return std::move(all.error());
    talk(*all, rid ? "why " + std::to_string(*rid) + "\n" : "sessions\n",
         clock::now() + 4 * silence_max, [](process&) { return true; });
    live_answers result;
    for (auto& x : *all) {
        auto read = read_recording(x.unread, x.what.name);
        if (read && read->ended == trace::ended_asked)
            result.recordings.push_back(std::move(*read));
        else
            result.silent.push_back(
                {x.what.name, x.what.process_id,
                 x.what.problem.empty() ? "has sent half an answer only" : x.what.problem});
    }
    return result;
}

} // namespace kvferry::tracing
