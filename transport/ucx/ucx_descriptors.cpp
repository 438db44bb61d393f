// SPDX-License-Identifier: Apache-2.0
// Walks the epoll sets of a worker as /proc shows them.
#include "transport/ucx/ucx_descriptors.hpp"

#include "transport/loop/forked_child.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <vector>

namespace kvferry {

namespace {

std::set<int> all_descriptors() {
    std::set<int> result;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{"/proc/self/fd", ignored})
        result.insert(std::atoi(entry.path().filename().c_str()));
    return result;
}

bool is_epoll(int fd) {
    std::error_code ignored;
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored)
           == "anon_inode:[eventpoll]";
}

/// 0: the number leads nowhere.
ino_t file_of(int fd) {
    struct stat file {};
    return ::fstat(fd, &file) == 0 ? file.st_ino : 0;
}

/// What an epoll set watches: the lines "tfd: NUMBER events: ..." of its description.
std::vector<int> watched_by(int epoll) {
    std::vector<int> result;
    std::ifstream description{"/proc/self/fdinfo/" + std::to_string(epoll)};
    for (std::string line; std::getline(description, line);)
        if (line.starts_with("tfd:"))
            result.push_back(std::atoi(line.c_str() + 4));
    return result;
}

} // namespace

std::set<int> epoll_sets() {
    auto result = all_descriptors();
    std::erase_if(result, [](int fd) { return !is_epoll(fd); });
    return result;
}

std::set<int> polled_descriptors(int event_fd, const std::set<int>& made) {
    auto result = made;
    result.insert(event_fd);
    std::vector<int> sets(result.begin(), result.end());
    while (!sets.empty()) {
        const auto next = sets.back();
        sets.pop_back();
        for (auto fd : watched_by(next))
            if (result.insert(fd).second && is_epoll(fd))
                sets.push_back(fd);
    }
    return result;
}

std::set<int> ucx_descriptors(int event_fd, const std::set<int>& made) {
    const auto polled = polled_descriptors(event_fd, made);
    auto result = polled;
    for (auto fd : epoll_sets()) {
        if (polled.contains(fd))
            continue;
        // UCX's thread watches the sets of the transports; a loop of the host watches the event
        // descriptor itself.
        const auto watched = watched_by(fd);
        if (std::count(watched.begin(), watched.end(), event_fd) != 0
            || std::none_of(watched.begin(), watched.end(),
                            [&polled](int other) { return polled.contains(other); }))
            continue;
        result.insert(fd);
        result.insert(watched.begin(), watched.end());
    }
    return result;
}

listening_sockets listening_among(const std::set<int>& descriptors) {
    listening_sockets result;
    for (auto fd : descriptors) {
        int listens = 0;
        socklen_t length = sizeof listens;
        if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens != 0)
            result.emplace(fd, file_of(fd));
    }
    return result;
}

std::size_t forget_closed(listening_sockets& sockets) {
    return std::erase_if(sockets, [](const auto& x) { return file_of(x.first) != x.second; });
}

void close_on_exec(const std::set<int>& descriptors) {
    for (auto fd : descriptors)
        if (const auto flags = ::fcntl(fd, F_GETFD); flags >= 0 && (flags & FD_CLOEXEC) == 0)
            ::fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
}

void blank_sockets(const std::set<int>& descriptors) {
    for (auto fd : descriptors)
        if (struct stat file{}; ::fstat(fd, &file) == 0 && S_ISSOCK(file.st_mode))
            blank_descriptor(fd);
}

} // namespace kvferry
