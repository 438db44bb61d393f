// SPDX-License-Identifier: Apache-2.0
// fork and exec of this same program, one socket between the two.
#include "tools/bench/helper.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kvferry::bench {

namespace {

/// Longer than any round takes.
constexpr std::chrono::seconds answer_deadline{300};
constexpr std::chrono::seconds end_deadline{15};

/// Goes into a network namespace, with a /sys that shows its devices: UCX looks for them there.
/// System calls only.
bool enter(int network_namespace) {
    return ::setns(network_namespace, CLONE_NEWNET) == 0 && ::unshare(CLONE_NEWNS) == 0
           && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0
           && ::mount("sysfs", "/sys", "sysfs", 0, nullptr) == 0;
}

} // namespace

caf::error line_socket::write(const json& value) {
    const auto line = value.dump() + "\n";
    for (std::size_t at = 0; at < line.size();) {
        const auto count = ::send(fd_.get(), line.data() + at, line.size() - at, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return system_error(errc::link_lost, "send to the other side");
        at += static_cast<std::size_t>(count);
    }
    return {};
}

caf::expected<json> line_socket::read(std::chrono::milliseconds deadline) {
    for (;;) {
        if (const auto end = partial_.find('\n'); end != partial_.npos) {
            auto result = json::parse(partial_.substr(0, end), nullptr, false);
            partial_.erase(0, end + 1);
            return result;
        }
        pollfd watched{fd_.get(), POLLIN, 0};
        const auto ready = ::poll(&watched, 1, static_cast<int>(deadline.count()));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return make_error(errc::deadline_exceeded, "the other side has not answered for {} ms",
                              deadline.count());
        char bytes[4096];
        const auto count = ::recv(fd_.get(), bytes, sizeof bytes, 0);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return make_error(errc::link_lost, "the other side has ended");
        partial_.append(bytes, static_cast<std::size_t>(count));
    }
}

bool line_socket::readable() const {
    pollfd watched{fd_.get(), POLLIN, 0};
    return !partial_.empty() || ::poll(&watched, 1, 0) > 0;
}

caf::expected<helper> helper::start(const std::string& network_namespace, const char* command) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return system_error(errc::system_call_failed, "socketpair");
    unique_fd mine{ends[0]};
    unique_fd theirs{ends[1]};
    const auto number = std::to_string(theirs.get());
    unique_fd net;
    if (!network_namespace.empty()) {
        net = unique_fd{::open(network_namespace.c_str(), O_RDONLY | O_CLOEXEC)};
        if (!net)
            return system_error(errc::system_call_failed, "open(" + network_namespace + ")");
    }
    std::error_code unknown;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", unknown).string();
    const auto parent = ::getpid();
    const auto child = ::fork();
    if (child < 0)
        return system_error(errc::system_call_failed, "fork");
    if (child == 0) { // system calls only, until exec
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::fcntl(theirs.get(), F_SETFD, 0);
        if (net && !enter(net.get()))
            ::_exit(126);
        if (::getppid() == parent) // otherwise the parent died before the prctl() above
            ::execl(self.c_str(), "kvferry", command, number.c_str(), // valgrind follows a path
                    static_cast<char*>(nullptr));
        ::_exit(127);
    }
    return helper{child, line_socket{std::move(mine)}};
}

helper::helper(helper&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), socket_(std::move(other.socket_)) {}

helper::~helper() {
    if (pid_ < 0)
        return;
    socket_.close(); // the child stops when its socket closes
    const unique_fd process{static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0))};
    pollfd watched{process.get(), POLLIN, 0};
    const auto wait = std::chrono::milliseconds{end_deadline};
    if (::poll(&watched, 1, static_cast<int>(wait.count())) <= 0)
        ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

caf::expected<json> helper::ask(const json& question) {
    if (auto problem = tell(question))
        return problem;
    return answer();
}

caf::expected<json> helper::answer() {
    auto answer = socket_.read(answer_deadline);
    if (!answer)
        return std::move(answer.error());
    if (answer->is_discarded() || answer->contains("error"))
        return make_error(errc::transfer_failed, "context side: {}",
                          answer->value("error", std::string{"no JSON"}));
    return answer;
}

} // namespace kvferry::bench
