// SPDX-License-Identifier: Apache-2.0
// HTTP with JSON, through libcurl: requests of one thread, which wait.
#pragma once

#include "messages/errors.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace kvferry {

class http_client {
public:
    struct tls_files {
        std::string ca;
        std::string cert;
        std::string key;
    };

    struct answer {
        long status = 0;
        std::string body;
    };

    /// unsupported: kvferry was built without libcurl, or this machine has none.
    static caf::expected<http_client> make(tls_files);

    http_client(http_client&&) noexcept;
    ~http_client();

    /// What later requests show of whoever sends them; empty: nothing.
    void authorize(const std::string& token);

    /// Connections are kept between calls. dial_failed: no answer within that time.
    caf::expected<answer> post(const std::string& url, const std::string& json,
                               std::chrono::milliseconds within);

    /// An answer that goes on: each part of it, until `part` returns false (then no error) or the
    /// other side ends it.
    caf::error follow(const std::string& url, const std::string& json,
                      std::function<bool(std::string_view)> part);

private:
    struct state;
    explicit http_client(std::unique_ptr<state>);

    std::unique_ptr<state> state_;
};

} // namespace kvferry
