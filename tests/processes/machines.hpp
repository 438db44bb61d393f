// SPDX-License-Identifier: Apache-2.0
// Network namespaces that stand in for machines.
#pragma once

#include "transport/loop/unique_fd.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/mount.h>
#include <unistd.h>

namespace kvferry::testing {

inline bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

/// Brings this thread back to where it was.
class guest {
public:
    ~guest() {
        ::setenv("UCX_NET_DEVICES", devices_.c_str(), 1);
        ::setns(files_.get(), CLONE_NEWNS);
        ::setns(network_.get(), CLONE_NEWNET);
    }

private:
    static unique_fd open(const char* kind) {
        return unique_fd{
            ::open((std::string{"/proc/thread-self/ns/"} + kind).c_str(), O_RDONLY | O_CLOEXEC)};
    }

    unique_fd network_ = open("net");
    unique_fd files_ = open("mnt");
    std::string devices_ = std::getenv("UCX_NET_DEVICES") ? std::getenv("UCX_NET_DEVICES") : "lo";
};

/// Runs something on a machine; processes that it starts stay there. They get a /sys of their own,
/// where UCX looks for its devices: a mount shows those of the namespace that it was made in.
template <class F>
auto run_on(const std::string& machine, const std::string& device, F what) {
    const guest here;
    const unique_fd there{::open(("/run/netns/" + machine).c_str(), O_RDONLY | O_CLOEXEC)};
    REQUIRE(::setns(there.get(), CLONE_NEWNET) == 0);
    REQUIRE(::unshare(CLONE_NEWNS) == 0);
    REQUIRE(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    REQUIRE(::mount("sysfs", "/sys", "sysfs", 0, nullptr) == 0);
    ::setenv("UCX_NET_DEVICES", device.c_str(), 1);
    return what();
}

} // namespace kvferry::testing
