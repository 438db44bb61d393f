// SPDX-License-Identifier: Apache-2.0
// One poll loop serves the listener and the clients, which get what the rings hold.
#include "actors/observe/trace_endpoint.hpp"

#include "actors/observe/process_files.hpp"
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"
#include "transport/same_host/machine_id.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

/// For one slow client. The process neither waits for it nor grows: beyond this its events are
/// lost.
constexpr std::size_t unsent_bytes_max = std::size_t{64} << 20;
constexpr std::size_t question_bytes_max = 64;
constexpr std::size_t clients_max = 16;

bool to_address(const std::string& path, sockaddr_un& address) {
    address = {};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path)
        return false;
    std::copy(path.begin(), path.end(), address.sun_path);
    return true;
}

/// Removes the sockets of former processes with this name and process id: nobody listens there. A
/// container's process often has the id 1, so the id alone does not tell.
void remove_former(const std::string& folder, const std::string& file) {
    const auto same = file.substr(0, file.rfind('.') + 1);
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{folder, ignored}) {
        sockaddr_un address;
        if (!entry.path().filename().string().starts_with(same)
            || !to_address(entry.path().string(), address))
            continue;
        const unique_fd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
        if (probe
            && ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address)
                   != 0
            && errno == ECONNREFUSED)
            ::unlink(entry.path().c_str());
    }
}

caf::expected<unique_fd> listen_at(const std::string& path) {
    const auto hidden = path + "~"; // a socket that can be seen under its name listens
    sockaddr_un address;
    if (!to_address(hidden, address))
        return make_error(errc::invalid_argument,
                          "{} is too long for a socket: name a shorter folder in KVFERRY_TRACE_DIR",
                          path);
    unique_fd result{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (!result)
        return system_error(errc::system_call_failed, "socket");
    if (::bind(result.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0
        || ::chmod(hidden.c_str(), 0600) != 0 || ::listen(result.get(), 8) != 0
        || ::rename(hidden.c_str(), path.c_str()) != 0)
        return system_error(errc::system_call_failed, "listen at " + path);
    return result;
}

bool same_user(int fd) {
    ucred peer{};
    socklen_t size = sizeof peer;
    return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0
           && (peer.uid == ::geteuid() || peer.uid == 0);
}

trace::session_record record_of(const session_status& x, const std::string& rank, bool open) {
    trace::session_record result;
    result.rank = rank;
    result.side = to_string(x.role);
    result.state = open ? to_string(x.state) : "NONE";
    result.rid = x.request.value;
    result.attempt = x.attempt.value;
    result.now_ns = trace::clock_now().monotonic_ns;
    if (x.deadline)
        result.deadline_ns = static_cast<std::uint64_t>(
            std::chrono::nanoseconds{x.deadline->time_since_epoch()}.count());
    if (x.opened_at)
        result.opened_ns = static_cast<std::uint64_t>(
            std::chrono::nanoseconds{x.opened_at->time_since_epoch()}.count());
    for (const auto& wait : x.waits)
        result.waits.push_back({wait.what, wait.who, wait.rank});
    return result;
}

} // namespace

struct trace_endpoint::client {
    unique_fd socket;
    std::string question;
    bool recording = false;
    /// Nothing is added any more; the client is dropped when all is sent.
    bool ending = false;
    std::vector<std::byte> unsent;
    std::size_t sent = 0;
    std::chrono::steady_clock::time_point last{};
    trace::recording_encoder encoder;
    trace::collector events;

    void add(const std::vector<std::byte>& bytes) {
        unsent.insert(unsent.end(), bytes.begin(), bytes.end());
        last = std::chrono::steady_clock::now();
    }

    void collect() {
        if (unsent.size() - sent > unsent_bytes_max)
            return; // the rings count what is lost meanwhile
        auto threads = events.collect();
        if (!threads.empty() || std::chrono::steady_clock::now() - last > trace_beat)
            add(encoder.add(trace::clock_now(), threads));
    }

    void end(std::string_view why) {
        if (std::exchange(ending, true))
            return;
        if (recording) {
            collect();
            add(encoder.end(why));
        }
    }

    /// Sends what the socket takes; false when the client can be dropped.
    bool flush() {
        while (sent < unsent.size()) {
            const auto count =
                ::send(socket.get(), unsent.data() + sent, unsent.size() - sent, MSG_NOSIGNAL);
            if (count < 0)
                return errno == EAGAIN || errno == EINTR;
            sent += static_cast<std::size_t>(count);
        }
        unsent.clear();
        sent = 0;
        return !ending;
    }
};

std::string trace_endpoint::default_folder() {
    if (const char* wanted = std::getenv("KVFERRY_TRACE_DIR"))
        return wanted;
    if (const char* runtime = std::getenv("XDG_RUNTIME_DIR"))
        return std::string{runtime} + "/kvferry";
    std::error_code ignored;
    return (std::filesystem::temp_directory_path(ignored)
            / ("kvferry-" + std::to_string(::geteuid())))
        .string();
}

caf::expected<std::unique_ptr<trace_endpoint>>
trace_endpoint::start(const std::string& name, const std::string& folder,
                      std::vector<trace::rank_record> ranks, ask_ranks ask) {
    if (auto problem = make_private_folder(folder, "KVFERRY_TRACE_DIR"))
        return problem;
    const auto file = process_file_name(name);
    remove_former(folder, file);
    auto path = folder + "/" + file + ".sock";
    auto listener = listen_at(path);
    if (!listener)
        return std::move(listener.error());
    unique_fd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!stop)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    std::unique_ptr<trace_endpoint> result{new trace_endpoint{name, std::move(path),
                                                              std::move(*listener), std::move(stop),
                                                              std::move(ranks), std::move(ask)}};
    auto thread =
        make_thread("the socket for kvferry trace", [self = result.get()] { self->run(); });
    if (!thread)
        return std::move(thread.error());
    result->thread_ = std::move(*thread);
    return result;
}

trace_endpoint::trace_endpoint(std::string name, std::string path, unique_fd listener,
                               unique_fd stop, std::vector<trace::rank_record> ranks, ask_ranks ask)
    : name_(std::move(name)), path_(std::move(path)), door_(std::move(listener), path_),
      stop_(std::move(stop)), ranks_(std::move(ranks)), ask_(std::move(ask)) {}

trace_endpoint::~trace_endpoint() {
    ::unlink(path_.c_str());
    ::eventfd_write(stop_.get(), 1);
    if (thread_.joinable())
        thread_.join();
    for (auto& x : clients_) {
        x.end(trace::ended_by_process);
        x.flush(); // what does not fit is lost: a stop does not wait for clients
    }
}

void trace_endpoint::run() {
    for (;;) {
        std::vector<pollfd> watched{{stop_.get(), POLLIN, 0}, door_.watched()};
        bool recording = false;
        for (const auto& x : clients_) {
            const auto out = x.unsent.empty() ? 0 : POLLOUT;
            watched.push_back(
                {x.socket.get(), static_cast<short>((x.ending ? 0 : POLLIN) | out), 0});
            recording = recording || (x.recording && !x.ending);
        }
        ::poll(watched.data(), watched.size(), recording ? trace_collect_ms : door_.rest_ms());
        if (watched[0].revents != 0)
            return;
        for (auto& x : clients_)
            serve(x);
        std::erase_if(clients_, [](client& x) { return !x.flush() || !x.socket; });
        if (auto socket = door_.accept(watched[1]);
            socket && clients_.size() < clients_max && same_user(socket.get()))
            clients_.emplace_back().socket = std::move(socket);
    }
}

void trace_endpoint::serve(client& x) {
    if (x.ending)
        return;
    char bytes[question_bytes_max];
    const auto count = ::recv(x.socket.get(), bytes, sizeof bytes, 0);
    if (count > 0 && !x.recording) {
        x.question.append(bytes, static_cast<std::size_t>(count));
        if (const auto line = x.question.find('\n'); line != x.question.npos)
            begin(x, x.question.substr(0, line));
        else if (x.question.size() > question_bytes_max)
            x.ending = true;
    } else if (count == 0) {
        x.end(trace::ended_by_recorder);
    }
    if (x.recording && !x.ending)
        x.collect();
}

void trace_endpoint::begin(client& x, const std::string& question) {
    const auto head = [&] {
        x.add(x.encoder.begin(trace::first_clock(), static_cast<std::uint32_t>(::getpid()), name_,
                              machine_id()));
    };
    if (question == "record") {
        head();
        x.add(x.encoder.joined());
        x.events.collect(); // skips the past
        x.recording = true;
        return;
    }
    const auto tell = [&](std::optional<rid> request) {
        head();
        for (const auto& rank : ranks_)
            x.add(x.encoder.rank(rank));
        for (const auto& session : ask_(request))
            x.add(x.encoder.session(session));
    };
    std::uint64_t request = 0;
    if (question == "sessions") {
        tell({});
        x.add(x.encoder.end(trace::ended_asked));
    } else if (question.starts_with("why ")
               && std::from_chars(question.data() + 4, question.data() + question.size(), request)
                          .ec
                      == std::errc{}) {
        tell(rid{request});
        x.recording = true; // so that end() collects the rings once
        x.end(trace::ended_asked);
    }
    x.ending = true;
}

caf::expected<trace::rank_record> trace_rank(const worker& from) {
    auto known = from.info();
    if (!known)
        return std::move(known.error());
    return trace::rank_record{describe(known->info), known->info_endpoint, known->info.world_size};
}

std::vector<trace::session_record> trace_sessions(const worker& from, const std::string& rank,
                                                  std::optional<rid> request) {
    std::vector<trace::session_record> result;
    auto all = from.sessions({request}, trace_answer);
    if (!all) {
        trace::session_record silent;
        silent.rank = rank;
        silent.state = "UNKNOWN";
        silent.rid = request.value_or(rid{}).value;
        silent.now_ns = trace::clock_now().monotonic_ns;
        silent.waits.push_back({"the rank's loop, which has not answered for "
                                    + std::to_string(trace_answer.count()) + " ms",
                                "transfer_worker",
                                {}});
        result.push_back(std::move(silent));
        return result;
    }
    for (const auto& x : all->sessions)
        result.push_back(record_of(x, rank, true));
    for (const auto& x : all->unopened)
        result.push_back(record_of(x, rank, false));
    return result;
}

} // namespace kvferry
