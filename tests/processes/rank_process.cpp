// SPDX-License-Identifier: Apache-2.0
// Fork, pipes, signals and lines.
#include "tests/processes/rank_process.hpp"

#include "transport/loop/system_call.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <poll.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvferry::testing {

namespace {

using clock = std::chrono::steady_clock;

void check(bool ok, const char* call) {
    if (!ok)
        throw std::runtime_error(std::string{call} + ": " + std::strerror(errno));
}

std::pair<unique_fd, unique_fd> make_pipe() {
    int ends[2];
    check(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
    return {unique_fd{ends[0]}, unique_fd{ends[1]}};
}

int milliseconds_until(clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    return static_cast<int>(std::max<std::int64_t>(left, 0));
}

} // namespace

std::string rank_program() {
    const char* elsewhere = std::getenv("KVFERRY_PROGRAM"); // when the build was carried away
    return elsewhere ? elsewhere : KVFERRY_PROGRAM;
}

rank_process::rank_process(const std::vector<std::string>& arguments, const launch& how) {
    auto words = how.under;
    words.insert(words.end(), {how.program.empty() ? rank_program() : how.program, "worker"});
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> pointers;
    for (auto& word : words) {
        history_.push_back(word);
        pointers.push_back(word.data());
    }
    pointers.push_back(nullptr);
    auto [child_input, input] = make_pipe();
    auto [output, child_output] = make_pipe();
    log_ = unique_fd{memfd_create("log of a rank", MFD_CLOEXEC)};
    check(log_.get() >= 0, "memfd_create");
    const auto parent = getpid();
    pid_ = fork();
    check(pid_ >= 0, "fork");
    if (pid_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const rlimit no_core{0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        setenv("UCX_NET_DEVICES", "lo", 0);
        if (getppid() != parent || dup2(child_input.get(), 0) < 0 || dup2(child_output.get(), 1) < 0
            || dup2(how.log >= 0 ? how.log : log_.get(), 2) < 0)
            _exit(126);
        execvp(pointers[0], pointers.data());
        _exit(127);
    }
    pidfd_ = unique_fd{static_cast<int>(syscall(SYS_pidfd_open, pid_, 0))};
    check(pidfd_.get() >= 0, "pidfd_open");
    input_ = std::move(input);
    output_ = std::move(output);
}

rank_process::~rank_process() {
    if (ended_)
        return;
    ::kill(pid_, SIGKILL); // ends a stopped process too
    waitpid(pid_, nullptr, 0);
}

const json& rank_process::ready() {
    if (ready_.is_null())
        ready_ = wait_for("ready");
    return ready_;
}

// -- lines --------------------------------------------------------------------------------------

json rank_process::wait_for(const std::string& event, const predicate& which,
                            std::chrono::milliseconds limit) {
    const auto deadline = clock::now() + limit;
    for (;;) {
        for (auto it = events_.begin(); it != events_.end(); ++it)
            if (it->at("event") == event && (!which || which(*it))) {
                auto result = std::move(*it);
                events_.erase(it);
                return result;
            }
        read_more(deadline, "event '" + event + "'");
    }
}

json rank_process::first_event() {
    const auto deadline = clock::now() + 20s;
    while (events_.empty())
        read_more(deadline, "an event");
    auto result = std::move(events_.front());
    events_.pop_front();
    return result;
}

json rank_process::outcome(std::uint64_t rid, std::chrono::milliseconds limit) {
    return wait_for(
        "outcome", [rid](const json& x) { return x.at("rid") == rid; }, limit);
}

json rank_process::released(std::uint64_t rid, std::chrono::milliseconds limit) {
    return wait_for(
        "released", [rid](const json& x) { return x.at("rid") == rid; }, limit);
}

json rank_process::ask(const json& command) {
    const auto line = command.dump() + "\n";
    history_.push_back("> " + command.dump());
    if (write(input_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        give_up("a command could not be written");
    static const std::map<std::string, std::string> answers{
        {"open", "opened"},       {"send", "sending"},          {"receive", "receiving"},
        {"cancel", "cancelling"}, {"status", "status"},         {"fill", "filled"},
        {"check", "checked"},     {"digest", "digest"},         {"await", "arrived"},
        {"connect", "connected"}, {"republish", "republished"}, {"statistics", "statistics"},
        {"role", "role"}};
    const auto answer = answers.at(command.at("do"));
    const auto deadline = clock::now() + 20s;
    for (;;) {
        for (auto it = events_.begin(); it != events_.end(); ++it)
            if (it->at("event") == answer || it->at("event") == "error") {
                auto result = std::move(*it);
                events_.erase(it);
                return result;
            }
        read_more(deadline, "the answer to " + command.dump());
    }
}

std::size_t rank_process::unread(const std::string& event) const {
    return static_cast<std::size_t>(std::count_if(
        events_.begin(), events_.end(), [&](const json& x) { return x.at("event") == event; }));
}

void rank_process::read_more(clock::time_point deadline, const std::string& what) {
    pollfd waiting{output_.get(), POLLIN, 0};
    if (poll(&waiting, 1, milliseconds_until(deadline)) <= 0)
        give_up(what + " did not come in time");
    char buffer[65536];
    const auto bytes = read(output_.get(), buffer, sizeof buffer);
    if (bytes <= 0)
        give_up(what + " did not come, the rank has closed its output" + how_it_ended());
    partial_.append(buffer, static_cast<std::size_t>(bytes));
    for (auto end = partial_.find('\n'); end != partial_.npos; end = partial_.find('\n')) {
        history_.push_back(partial_.substr(0, end));
        auto event = json::parse(history_.back(), nullptr, false);
        if (event.is_discarded())
            give_up("a line that is no JSON came while waiting for " + what);
        events_.push_back(std::move(event));
        partial_.erase(0, end + 1);
    }
}

/// It closes its output a moment before it ends; its status stays for wait_for_end().
std::string rank_process::how_it_ended() const {
    pollfd waiting{pidfd_.get(), POLLIN, 0};
    siginfo_t how{};
    if (poll(&waiting, 1, 5000) != 1
        || waitid(P_PID, static_cast<id_t>(pid_), &how, WEXITED | WNOHANG | WNOWAIT) != 0)
        return " and goes on";
    return (how.si_code == CLD_EXITED ? " and ended with status " : " and was ended by signal ")
           + std::to_string(how.si_status);
}

void rank_process::give_up(const std::string& what) const {
    throw std::runtime_error("rank process " + std::to_string(pid_) + ": " + what
                             + "; so far:" + story());
}

std::string rank_process::story() const {
    std::string text;
    for (const auto& line : history_)
        text += "\n    " + line;
    return text + "\n  its log:\n" + log();
}

std::string rank_process::log() const {
    std::string text(65536, '\0');
    const auto bytes = pread(log_.get(), text.data(), text.size(), 0);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(bytes, 0)));
    return text;
}

// -- the process --------------------------------------------------------------------------------

void rank_process::kill() {
    ::kill(pid_, SIGKILL);
}

void rank_process::terminate() {
    ::kill(pid_, SIGTERM);
}

void rank_process::freeze() {
    ::kill(pid_, SIGSTOP);
    int status = 0;
    check(waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status), "freeze");
}

void rank_process::thaw() {
    ::kill(pid_, SIGCONT);
}

int rank_process::stop(json* stopped) {
    input_ = {};
    auto last = wait_for("stopped");
    if (stopped)
        *stopped = std::move(last);
    return wait_for_end();
}

int rank_process::wait_for_end(std::chrono::milliseconds limit) {
    if (ended_)
        return status_;
    pollfd waiting{pidfd_.get(), POLLIN, 0};
    if (poll(&waiting, 1, static_cast<int>(limit.count())) != 1)
        give_up("it did not end in time");
    check(waitpid(pid_, &status_, 0) == pid_, "waitpid");
    ended_ = true;
    if (WIFEXITED(status_))
        status_ = WEXITSTATUS(status_);
    return status_;
}

namespace {

/// A connection of the wire over shared memory: one of its two ends has the wire's name.
bool is_shared_ring(int socket) {
    const auto has_name = [](const sockaddr_un& address, socklen_t bytes) {
        const std::string_view wanted{"\0kvferry-shm-", 13};
        return bytes > offsetof(sockaddr_un, sun_path) + wanted.size()
               && address.sun_family == AF_UNIX
               && std::string_view{address.sun_path, wanted.size()} == wanted;
    };
    sockaddr_un ours{}, theirs{};
    socklen_t our_bytes = sizeof ours, their_bytes = sizeof theirs;
    return getpeername(socket, reinterpret_cast<sockaddr*>(&theirs), &their_bytes) == 0
           && getsockname(socket, reinterpret_cast<sockaddr*>(&ours), &our_bytes) == 0
           && (has_name(ours, our_bytes) || has_name(theirs, their_bytes));
}

} // namespace

std::size_t rank_process::break_connections() const {
    std::size_t broken = 0;
    const auto all = "/proc/" + std::to_string(pid_) + "/fd";
    for (const auto& entry : std::filesystem::directory_iterator{all}) {
        std::error_code gone; // a descriptor that was closed meanwhile
        if (!std::filesystem::read_symlink(entry.path(), gone).string().starts_with("socket:"))
            continue;
        const auto number = std::stoi(entry.path().filename().string());
        const unique_fd copy{static_cast<int>(syscall(SYS_pidfd_getfd, pidfd_.get(), number, 0))};
        if (copy.get() < 0 && errno == EBADF)
            continue;
        check(copy.get() >= 0, "pidfd_getfd");
        if (is_shared_ring(copy.get())) {
            check(shutdown(copy.get(), SHUT_RDWR) == 0, "shutdown");
            ++broken;
            continue;
        }
        sockaddr_storage peer{};
        socklen_t bytes = sizeof peer;
        int type = 0;
        socklen_t type_bytes = sizeof type;
        const auto connected =
            getpeername(copy.get(), reinterpret_cast<sockaddr*>(&peer), &bytes) == 0;
        if (!connected || (peer.ss_family != AF_INET && peer.ss_family != AF_INET6)
            || getsockopt(copy.get(), SOL_SOCKET, SO_TYPE, &type, &type_bytes) != 0
            || type != SOCK_STREAM)
            continue;
        sockaddr nobody{};
        nobody.sa_family = AF_UNSPEC; // disconnects, and sends a reset
        check(connect(copy.get(), &nobody, sizeof nobody) == 0, "connect");
        // Not connected any more, it says. But the rank is woken as by a reset that comes:
        // otherwise there would be nothing to read, and UCX would take the connection for a good
        // one.
        (void)shutdown(copy.get(), SHUT_RDWR);
        ++broken;
    }
    return broken;
}

std::size_t rank_process::descriptors() const {
    const std::filesystem::directory_iterator all{"/proc/" + std::to_string(pid_) + "/fd"};
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

std::uint64_t rank_process::processor_time() const {
    std::uint64_t result = 0;
    const auto tasks = "/proc/" + std::to_string(pid_) + "/task";
    for (const auto& task : std::filesystem::directory_iterator{tasks}) {
        std::uint64_t ran = 0;
        std::ifstream{task.path() / "schedstat"} >> ran;
        result += ran;
    }
    return result;
}

std::size_t rank_process::children() const {
    std::size_t result = 0;
    const auto tasks = "/proc/" + std::to_string(pid_) + "/task";
    for (const auto& task : std::filesystem::directory_iterator{tasks}) {
        std::ifstream list{task.path() / "children"};
        for (pid_t child = 0; list >> child;)
            ++result;
    }
    return result;
}

// -- instances ----------------------------------------------------------------------------------

instance_processes::instance_processes(options how) : how_(std::move(how)) {
    ranks.push_back(start(0, {}));
    endpoint = ranks[0]->info_endpoint();
    for (unsigned rank = 1; rank < how_.tp * how_.pp; ++rank)
        ranks.push_back(start(rank, {"--info-endpoint", endpoint}));
    for (auto& rank : ranks)
        rank->ready();
}

void instance_processes::restart(std::size_t rank) {
    if (rank == 0)
        ranks[0] = start(0, {"--port", endpoint.substr(endpoint.rfind(':') + 1)});
    else
        ranks[rank] = start(rank, {"--info-endpoint", endpoint});
    ranks[rank]->ready();
}

std::unique_ptr<rank_process>
instance_processes::start(std::size_t rank, const std::vector<std::string>& more) const {
    const auto layout =
        "tp=" + std::to_string(how_.tp) + ",tp_rank=" + std::to_string(rank % how_.tp)
        + ",pp=" + std::to_string(how_.pp) + ",pp_rank=" + std::to_string(rank / how_.tp);
    std::vector<std::string> arguments{
        "--instance", how_.name,  "--layout", layout,
        "--model",    how_.model, "--slots",  std::to_string(how_.slots)};
    arguments.insert(arguments.end(), how_.flags.begin(), how_.flags.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<rank_process>(arguments, how_.how);
}

} // namespace kvferry::testing
