// SPDX-License-Identifier: Apache-2.0
#include "transport/loop/accept.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/descriptors.hpp"
#include "transport/loop/system_call.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <utility>

namespace kvferry {

namespace {

/// What passes when other things of the process or the machine end.
bool out_of_something(int number) {
    return number == EMFILE || number == ENFILE || number == ENOBUFS || number == ENOMEM;
}

} // namespace

caf::expected<unique_fd> accept_connection(int listener) {
    if (auto problem = check_descriptors_to_accept())
        return problem;
    unique_fd result{made_to_fail("accept4")
                         ? -1
                         : ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!result && out_of_something(errno))
        return system_error(errc::system_call_failed, "accept4", "raise the limit of open files");
    return result;
}

poll_door::poll_door(unique_fd listener, std::string name)
    : listener_(std::move(listener)), name_(std::move(name)) {}

pollfd poll_door::watched(bool room) const {
    return {resting_ || !room ? -1 : listener_.get(), POLLIN, 0};
}

unique_fd poll_door::accept(const pollfd& after) {
    if (std::exchange(resting_, false) || after.revents == 0)
        return {}; // it is watched again from the next poll() on
    auto connection = accept_connection(listener_.get());
    if (!connection) {
        resting_ = true;
        if (!std::exchange(told_, true))
            logger().error("{} lets nobody in: {}", name_, describe(connection.error()));
        return {};
    }
    if (*connection)
        told_ = false;
    return std::move(*connection);
}

} // namespace kvferry
