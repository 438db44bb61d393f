// SPDX-License-Identifier: Apache-2.0
// Answers GET over HTTP/1.1, one answer per connection, on a thread of its own.
#pragma once

#include "messages/errors.hpp"
#include "transport/loop/accept.hpp"

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace kvferry {

struct http_request {
    /// Without its query.
    std::string_view path;
    /// What the client would like to have: the header Accept; empty without one.
    std::string_view accept = {};
};

struct http_answer {
    int status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};

/// Bounds of what strangers can do to it.
inline constexpr std::size_t http_connections_max = 16;
inline constexpr std::size_t http_request_bytes_max = 8192;
/// From the accept to the last byte of the answer.
inline constexpr std::chrono::milliseconds http_connection_deadline{5000};

class http_listener {
public:
    /// Called on the listener's thread.
    using handler = std::function<http_answer(const http_request&)>;

    /// Listens at "address:port"; port 0 picks a free one. invalid_argument for another text, a
    /// host's name included; system_call_failed with the system's reason.
    static caf::expected<std::unique_ptr<http_listener>> start(const std::string& at, handler);

    /// Waits for an answer that is being made.
    ~http_listener();
    http_listener(const http_listener&) = delete;
    http_listener& operator=(const http_listener&) = delete;

    /// "host:port" with the port that is listened at.
    const std::string& endpoint() const { return endpoint_; }

private:
    struct client;

    http_listener(std::string endpoint, unique_fd listener, unique_fd stop, handler);

    void run();
    bool serve(client&);

    std::string endpoint_;
    poll_door door_;
    unique_fd stop_;
    handler handler_;
    std::list<client> clients_;
    std::thread thread_;
};

} // namespace kvferry
