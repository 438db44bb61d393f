// SPDX-License-Identifier: Apache-2.0
// A listening same-host socket that is also a file in a folder, for processes that share a volume
// but not a network namespace, where abstract names are not seen.
#pragma once

#include "messages/errors.hpp"
#include "transport/same_host/unix_socket.hpp"

#include <string>

namespace kvferry {

/// Removes its file when it ends.
class socket_file {
public:
    /// Listens at path_in(folder, name). Also removes files of that folder which a killed rank has
    /// left behind. system_call_failed when the folder cannot be written, invalid_argument when the
    /// path is too long for a socket.
    static caf::expected<socket_file> listen(const std::string& folder, const std::string& name);

    /// What unix_socket::connect takes for the socket of that name.
    static std::string path_in(const std::string& folder, const std::string& name);

    socket_file(socket_file&&) noexcept;
    socket_file& operator=(socket_file&&) = delete;
    ~socket_file();

    unix_socket& socket() noexcept { return socket_; }

private:
    socket_file(std::string path, unix_socket socket) noexcept
        : path_(std::move(path)), socket_(std::move(socket)) {}

    std::string path_;
    unix_socket socket_;
};

} // namespace kvferry
