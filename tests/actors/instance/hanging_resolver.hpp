// SPDX-License-Identifier: Apache-2.0
// A resolver that answers when the test says so.
#pragma once

#include "actors/instance/name_lookup.hpp"
#include "messages/values/time.hpp"

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <sys/eventfd.h>

namespace kvferry::testing {

/// Look-ups that return only when the test says so.
struct hanging_resolver {
    std::shared_ptr<std::promise<void>> go = std::make_shared<std::promise<void>>();
    std::shared_ptr<std::atomic<int>> calls = std::make_shared<std::atomic<int>>(0);
    name_lookup lookup{[answered = go->get_future().share(), calls = calls](const info_endpoint&,
                                                                            addrinfo** found) {
        ++*calls;
        answered.wait();
        addrinfo hints{};
        hints.ai_flags = AI_NUMERICHOST;
        return ::getaddrinfo("127.0.0.1", "1", &hints, found);
    }};
    unique_fd never{::eventfd(0, EFD_CLOEXEC)};

    caf::expected<address_list> find(const std::string& host, std::chrono::milliseconds time) {
        return lookup.find({host, 1}, {clock::now() + time, never.get()});
    }
};

} // namespace kvferry::testing
