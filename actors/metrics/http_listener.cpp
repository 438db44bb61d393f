// SPDX-License-Identifier: Apache-2.0
// One poll loop serves the listener and its few clients.
#include "actors/metrics/http_listener.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "messages/values/info_endpoint.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <exception>
#include <netdb.h>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace kvferry {

namespace {

using clock = std::chrono::steady_clock;

struct place {
    std::string host;
    std::string port;
};

/// As an info endpoint, but for port 0.
std::optional<place> place_in(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == text.npos)
        return {};
    const auto port = text.substr(colon + 1);
    auto known = parse_info_endpoint(port == "0" ? text.substr(0, colon) + ":1" : text);
    if (!known)
        return {};
    return place{known->host, port};
}

caf::expected<unique_fd> listen_at(const place& where, const std::string& text) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* found = nullptr;
    if (const int problem = ::getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &found);
        problem != 0)
        return make_error(errc::invalid_argument, "metrics at {}: {}", text,
                          ::gai_strerror(problem));
    const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner{found, ::freeaddrinfo};
    unique_fd result{::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    const int on = 1;
    if (!result || ::setsockopt(result.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0
        || ::bind(result.get(), found->ai_addr, found->ai_addrlen) != 0
        || ::listen(result.get(), static_cast<int>(http_connections_max)) != 0)
        return system_error(errc::system_call_failed, "listen at " + text,
                            "name an address of this machine and a free port for metrics");
    return result;
}

std::uint16_t port_of(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    char port[16] = "";
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0
        || ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, port, sizeof port,
                         NI_NUMERICSERV)
               != 0)
        return 0;
    std::uint16_t result = 0;
    std::from_chars(port, port + std::strlen(port), result);
    return result;
}

std::string_view reason_of(int status) {
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

std::string response(const http_answer& x, bool with_body) {
    auto result = "HTTP/1.1 " + std::to_string(x.status) + " " + std::string{reason_of(x.status)}
                  + "\r\nContent-Type: " + x.content_type
                  + "\r\nContent-Length: " + std::to_string(x.body.size())
                  + "\r\nCache-Control: no-store\r\nConnection: close\r\n"
                  + (x.status == 405 ? "Allow: GET, HEAD\r\n" : "") + "\r\n";
    if (with_body)
        result += x.body;
    return result;
}

/// The value of a header, by its name in small letters; empty: it is not there.
std::string_view header_of(std::string_view request, std::string_view name) {
    for (auto at = request.find("\r\n"); at != request.npos;) {
        const auto line = request.substr(at + 2, request.find("\r\n", at + 2) - at - 2);
        if (line.empty())
            break;
        const auto colon = line.find(':');
        const auto is_letter = [](char wanted, char there) {
            return std::tolower(static_cast<unsigned char>(there)) == wanted;
        };
        if (colon == name.size() && std::equal(name.begin(), name.end(), line.begin(), is_letter)) {
            const auto value = line.substr(colon + 1);
            const auto first = value.find_first_not_of(" \t");
            return first == value.npos ? std::string_view{} : value.substr(first);
        }
        at = request.find("\r\n", at + 2);
    }
    return {};
}

/// The first line of a request: method, target, version.
std::string respond(std::string_view request, const http_listener::handler& handler) {
    const auto line = request.substr(0, request.find("\r\n"));
    const auto first = line.find(' ');
    const auto second = line.find(' ', first + 1);
    if (first == line.npos || second == line.npos || !line.substr(second + 1).starts_with("HTTP/1.")
        || line.substr(first + 1, 1) != "/")
        return response({400, "text/plain", "this is not a request of HTTP/1.1\n"}, true);
    const auto method = line.substr(0, first);
    if (method != "GET" && method != "HEAD")
        return response({405, "text/plain", "only GET and HEAD\n"}, true);
    auto path = line.substr(first + 1, second - first - 1);
    path = path.substr(0, path.find('?'));
    try {
        return response(handler({path, header_of(request, "accept")}), method == "GET");
    } catch (const std::exception& thrown) {
        logger().error("metrics: {} failed: {}", path, thrown.what());
        return response({500, "text/plain", "failed\n"}, true);
    }
}

} // namespace

struct http_listener::client {
    unique_fd socket;
    clock::time_point until;
    std::string request = {};
    std::string answer = {};
    std::size_t sent = 0;
};

caf::expected<std::unique_ptr<http_listener>> http_listener::start(const std::string& at,
                                                                   handler handler) {
    const auto where = place_in(at);
    if (!where)
        return make_error(errc::invalid_argument,
                          "metrics: '{}' is not host:port, as in 127.0.0.1:9464",
                          at.substr(0, 300));
    auto listener = listen_at(*where, at);
    if (!listener)
        return std::move(listener.error());
    unique_fd stop{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (!stop)
        return system_error(errc::system_call_failed, "eventfd", "raise the limit of descriptors");
    auto endpoint = to_string(info_endpoint{where->host, port_of(listener->get())});
    std::unique_ptr<http_listener> result{new http_listener{
        std::move(endpoint), std::move(*listener), std::move(stop), std::move(handler)}};
    auto thread = make_thread("metrics", [self = result.get()] { self->run(); });
    if (!thread)
        return std::move(thread.error());
    result->thread_ = std::move(*thread);
    return result;
}

http_listener::http_listener(std::string endpoint, unique_fd listener, unique_fd stop,
                             handler handler)
    : endpoint_(std::move(endpoint)), door_(std::move(listener), "metrics at " + endpoint_),
      stop_(std::move(stop)), handler_(std::move(handler)) {}

http_listener::~http_listener() {
    ::eventfd_write(stop_.get(), 1);
    if (thread_.joinable())
        thread_.join();
}

void http_listener::run() {
    ::pthread_setname_np(::pthread_self(), "kvferry-metrics");
    for (;;) {
        const bool full = clients_.size() >= http_connections_max;
        std::vector<pollfd> watched{{stop_.get(), POLLIN, 0}, door_.watched(!full)};
        auto next = door_.rest_ms() < 0 ? clock::time_point::max() : clock::now() + accept_rest;
        for (const auto& x : clients_) {
            watched.push_back(
                {x.socket.get(), static_cast<short>(x.answer.empty() ? POLLIN : POLLOUT), 0});
            next = std::min(next, x.until);
        }
        const auto wait =
            next == clock::time_point::max()
                ? -1
                : static_cast<int>(std::clamp<std::int64_t>(
                    std::chrono::ceil<std::chrono::milliseconds>(next - clock::now()).count(), 0,
                    http_connection_deadline.count()));
        ::poll(watched.data(), watched.size(), wait);
        if (watched[0].revents != 0)
            return;
        std::size_t index = 2;
        std::erase_if(clients_, [&](client& x) {
            const auto happened = watched[index++].revents;
            return clock::now() >= x.until || (happened != 0 && !serve(x));
        });
        if (auto socket = door_.accept(watched[1]))
            clients_.push_back({std::move(socket), clock::now() + http_connection_deadline});
    }
}

/// False when the client can be dropped.
bool http_listener::serve(client& x) {
    if (x.answer.empty()) {
        char bytes[2048];
        const auto count = ::recv(x.socket.get(), bytes, sizeof bytes, 0);
        if (count <= 0)
            return count < 0 && (errno == EAGAIN || errno == EINTR);
        x.request.append(bytes, static_cast<std::size_t>(count));
        if (x.request.find("\r\n\r\n") != x.request.npos)
            x.answer = respond(x.request, handler_);
        else if (x.request.size() > http_request_bytes_max)
            x.answer = response({431, "text/plain", "the request is too long\n"}, true);
        else
            return true;
    }
    const auto count =
        ::send(x.socket.get(), x.answer.data() + x.sent, x.answer.size() - x.sent, MSG_NOSIGNAL);
    if (count < 0)
        return errno == EAGAIN || errno == EINTR;
    x.sent += static_cast<std::size_t>(count);
    if (x.sent < x.answer.size())
        return true;
    ::shutdown(x.socket.get(), SHUT_WR);
    return false;
}

} // namespace kvferry
