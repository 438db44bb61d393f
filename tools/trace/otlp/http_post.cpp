// SPDX-License-Identifier: Apache-2.0
// A connection per request, with the deadline on each wait.
#include "tools/trace/otlp/http_post.hpp"

#include "actors/instance/name_lookup.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace kvferry::tracing {

namespace {

caf::expected<unique_fd> connect(const http_target& to, std::chrono::milliseconds deadline) {
    const auto found = name_lookup::of_this_process().find(to.server, {clock::now() + deadline});
    if (!found)
        return add_context(found.error(), to.server.host);
    const timeval patience{static_cast<time_t>(deadline.count() / 1000),
                           static_cast<suseconds_t>(deadline.count() % 1000 * 1000)};
    for (const auto* x = found->get(); x != nullptr; x = x->ai_next) {
        unique_fd socket{::socket(x->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
        if (!socket)
            continue;
        ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (::connect(socket.get(), x->ai_addr, x->ai_addrlen) == 0)
            return socket;
    }
    return system_error(errc::dial_failed, "connect to " + to_string(to.server));
}

} // namespace

caf::expected<http_target> parse_http_target(const std::string& text) {
    constexpr std::string_view scheme = "http://";
    const auto wrong = [&text] {
        return make_error(errc::invalid_argument,
                          "'{}' is not http://host[:port][/path], as in http://127.0.0.1:4318",
                          text.substr(0, 300));
    };
    if (!text.starts_with(scheme) || text.find_first_of(" \r\n\t") != text.npos)
        return wrong();
    const auto rest = text.substr(scheme.size());
    const auto slash = rest.find('/');
    auto authority = rest.substr(0, slash);
    if (authority.ends_with("]") || authority.find(':') == authority.npos)
        authority += ":4318";
    auto server = parse_info_endpoint(authority);
    if (!server)
        return wrong();
    http_target result{*std::move(server)};
    if (slash != rest.npos && slash + 1 < rest.size())
        result.path = rest.substr(slash);
    return result;
}

caf::error http_post(const http_target& to, const std::string& json,
                     std::chrono::milliseconds deadline) {
    auto socket = connect(to, deadline);
    if (!socket)
        return std::move(socket.error());
    const auto request = "POST " + to.path + " HTTP/1.1\r\nHost: " + to_string(to.server)
                         + "\r\nContent-Type: application/json\r\nContent-Length: "
                         + std::to_string(json.size()) + "\r\nConnection: close\r\n\r\n" + json;
    for (std::string_view rest = request; !rest.empty();) {
        const auto count = ::send(socket->get(), rest.data(), rest.size(), MSG_NOSIGNAL);
        if (count <= 0)
            return system_error(errc::dial_failed, "send to " + to_string(to.server));
        rest.remove_prefix(static_cast<std::size_t>(count));
    }
    constexpr std::size_t answer_bytes_max = 4096; // its first line says it
    std::string answer;
    char bytes[1024];
    while (answer.size() < answer_bytes_max) {
        const auto count = ::recv(socket->get(), bytes, sizeof bytes, 0);
        if (count <= 0)
            break;
        answer.append(bytes, static_cast<std::size_t>(count));
    }
    const auto line = answer.substr(0, answer.find("\r\n"));
    if (!line.starts_with("HTTP/1."))
        return make_error(errc::dial_failed, "{} does not answer over HTTP", to_string(to.server));
    if (line.size() < 10 || line[9] != '2')
        return make_error(errc::transfer_failed, "{} answers '{}'", to_string(to.server), line);
    return {};
}

} // namespace kvferry::tracing
