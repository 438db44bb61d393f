// SPDX-License-Identifier: Apache-2.0
// A connection per request, with the deadline on each wait.
#include "tools/trace/otlp/http_post.hpp"

#include "actors/instance/name_lookup.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/unique_fd.hpp"

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <utility>

namespace kvferry::tracing {

namespace {

std::optional<std::uint16_t> number_of(const std::string& port) {
    std::uint16_t result = 0;
    const auto* end = port.data() + port.size();
    const auto read = std::from_chars(port.data(), end, result);
    return read.ec == std::errc{} && read.ptr == end && result != 0 ? std::optional{result}
                                                                    : std::nullopt;
}

caf::expected<unique_fd> connect(const http_target& to, std::chrono::milliseconds deadline) {
    const auto found = name_lookup::of_this_process().find(
        {to.host, number_of(to.port).value_or(0)}, {clock::now() + deadline});
    if (!found)
        return add_context(found.error(), to.host);
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
    return system_error(errc::dial_failed, "connect to " + to.host + ":" + to.port);
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
    http_target result;
    const auto rest = text.substr(scheme.size());
    const auto slash = rest.find('/');
    if (slash != rest.npos && slash + 1 < rest.size())
        result.path = rest.substr(slash);
    auto authority = rest.substr(0, slash);
    if (const auto colon = authority.rfind(':');
        colon != authority.npos && !authority.ends_with("]")) {
        result.port = authority.substr(colon + 1);
        authority.resize(colon);
    }
    if (authority.starts_with("[") && authority.ends_with("]"))
        authority = authority.substr(1, authority.size() - 2);
    result.host = authority;
    if (result.host.empty() || !number_of(result.port))
        return wrong();
    return result;
}

caf::error http_post(const http_target& to, const std::string& json,
                     std::chrono::milliseconds deadline) {
    auto socket = connect(to, deadline);
    if (!socket)
        return std::move(socket.error());
    const auto request = "POST " + to.path + " HTTP/1.1\r\nHost: " + to.host + ":" + to.port
                         + "\r\nContent-Type: application/json\r\nContent-Length: "
                         + std::to_string(json.size()) + "\r\nConnection: close\r\n\r\n" + json;
    for (std::string_view rest = request; !rest.empty();) {
        const auto count = ::send(socket->get(), rest.data(), rest.size(), MSG_NOSIGNAL);
        if (count <= 0)
            return system_error(errc::dial_failed, "send to " + to.host);
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
        return make_error(errc::dial_failed, "{}:{} does not answer over HTTP", to.host, to.port);
    if (line.size() < 10 || line[9] != '2')
        return make_error(errc::transfer_failed, "{}:{} answers '{}'", to.host, to.port, line);
    return {};
}

} // namespace kvferry::tracing
