// SPDX-License-Identifier: Apache-2.0
// Network namespaces that stand in for machines.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace kvferry::testing {

inline bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

inline std::string refused(const char* what) {
    return std::string{what} + " is refused here: " + std::strerror(errno);
}

/// Brings this thread back to where it was.
class guest {
public:
    ~guest() { leave(); }

    /// Empty, or what was refused. Who enters another namespace's files is at their root, wherever
    /// its own root and folder were.
    std::string leave() const {
        ::setenv("UCX_NET_DEVICES", devices_.c_str(), 1);
        if (::setns(files_.get(), CLONE_NEWNS) != 0)
            return refused("setns, back to the own files,");
        if (::fchdir(root_.get()) != 0 || ::chroot(".") != 0 || ::fchdir(folder_.get()) != 0)
            return refused("the way back to the own root and folder");
        if (::setns(network_.get(), CLONE_NEWNET) != 0)
            return refused("setns, back to the own network,");
        return {};
    }

private:
    static unique_fd open(const char* path, int flags) {
        return unique_fd{::open(path, flags | O_CLOEXEC)};
    }

    unique_fd network_ = open("/proc/thread-self/ns/net", O_RDONLY);
    unique_fd files_ = open("/proc/thread-self/ns/mnt", O_RDONLY);
    unique_fd root_ = open("/", O_PATH | O_DIRECTORY);
    unique_fd folder_ = open(".", O_PATH | O_DIRECTORY);
    std::string devices_ = std::getenv("UCX_NET_DEVICES") ? std::getenv("UCX_NET_DEVICES") : "lo";
};

/// Takes this thread to a machine. Empty, or what was refused.
inline std::string enter(const std::string& machine) {
    const unique_fd there{::open(("/run/netns/" + machine).c_str(), O_RDONLY | O_CLOEXEC)};
    if (::setns(there.get(), CLONE_NEWNET) != 0)
        return refused("setns, to another network,");
    if (::unshare(CLONE_NEWNS) != 0)
        return refused("unshare of the mounts");
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
        return refused("a mount of one's own");
    if (::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0)
        return refused("a mount of /sys");
    return {};
}

/// Goes there and comes back. Empty, or what was refused: containers and chroots may allow the one
/// and not the other. A child tries it, because who cannot come back is lost.
inline std::string try_visit(const std::string& machine) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return refused("a pipe");
    const unique_fd ours{ends[0]};
    unique_fd childs{ends[1]};
    const auto child = ::fork();
    if (child < 0)
        return refused("fork");
    if (child == 0) {
        const guest here;
        auto problem = enter(machine);
        if (problem.empty())
            problem = here.leave();
        const auto said = ::write(childs.get(), problem.data(), problem.size());
        ::_exit(said == static_cast<ssize_t>(problem.size()) ? 0 : 1);
    }
    childs = {};
    char text[256];
    std::string problem;
    for (ssize_t bytes = 0; (bytes = ::read(ours.get(), text, sizeof text)) > 0;)
        problem.append(text, static_cast<std::size_t>(bytes));
    int status = 0;
    const auto ended = ::waitpid(child, &status, 0) == child && status == 0;
    return ended || !problem.empty() ? problem : "a child that goes to another network ends there";
}

/// Runs something on a machine; processes that it starts stay there. They get a /sys of their own,
/// where UCX looks for its devices: a mount shows those of the namespace that it was made in.
template <class F>
auto run_on(const std::string& machine, const std::string& device, F what) {
    const guest here;
    REQUIRE(enter(machine) == "");
    ::setenv("UCX_NET_DEVICES", device.c_str(), 1);
    return what();
}

/// Machines of that type for a test, which is skipped where they do not work.
#define REQUIRE_MACHINES(type, net)                                                                \
    type net;                                                                                      \
    if (!net.why_not().empty()) {                                                                  \
        MESSAGE("skipped: no machines of their own: " << net.why_not());                           \
        return;                                                                                    \
    }

} // namespace kvferry::testing
