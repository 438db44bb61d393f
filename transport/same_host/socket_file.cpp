// SPDX-License-Identifier: Apache-2.0
// Makes and removes the files of same-host sockets.
#include "transport/same_host/socket_file.hpp"

#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace kvferry {

namespace {

constexpr const char* ending = ".socket";
/// A file has this ending until somebody listens on it, so that nobody takes it for a stale one.
constexpr const char* unfinished = ".new";

/// A file on which nobody listens belongs to a rank that was killed.
void remove_stale(const std::string& folder) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator{folder, ignored}) {
        const auto path = entry.path().string();
        if (!entry.path().filename().string().starts_with("kvferry-") || !path.ends_with(ending)
            || !entry.is_socket(ignored))
            continue;
        if (auto probe = unix_socket::connect(path); !probe)
            std::filesystem::remove(path, ignored);
    }
}

} // namespace

std::string socket_file::path_in(const std::string& folder, const std::string& name) {
    return folder + "/" + name + ending;
}

caf::expected<socket_file> socket_file::listen(const std::string& folder, const std::string& name) {
    if (!folder.starts_with('/'))
        return make_error(errc::invalid_argument,
                          "the folder of same-host sockets must be an absolute path, not '{}'",
                          folder);
    remove_stale(folder);
    const auto path = path_in(folder, name);
    const auto first = path + unfinished;
    auto socket = unix_socket::listen(first);
    if (!socket)
        return std::move(socket.error());
    socket_file result{first, std::move(*socket)};
    if (made_to_fail("rename") || std::rename(first.c_str(), path.c_str()) != 0)
        return system_error(errc::system_call_failed, "rename of same-host socket " + first);
    result.path_ = path;
    return result;
}

socket_file::socket_file(socket_file&& other) noexcept
    : path_(std::exchange(other.path_, {})), socket_(std::move(other.socket_)) {}

socket_file::~socket_file() {
    if (!path_.empty())
        ::unlink(path_.c_str());
}

} // namespace kvferry
