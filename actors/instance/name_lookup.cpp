// SPDX-License-Identifier: Apache-2.0
// A thread per name that is being looked up; askers wait in poll() for its event.
#include "actors/instance/name_lookup.hpp"

#include "messages/values/duration_text.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/system_call.hpp"
#include "transport/loop/threads.hpp"

#include <optional>
#include <sys/eventfd.h>
#include <sys/poll.h>
#include <utility>

namespace kvferry {

namespace {

caf::expected<address_list> to_result(int code, addrinfo* found) {
    if (code == 0)
        return address_list{found, free_addresses{}};
    return make_error(errc::dial_failed,
                      std::string{"cannot look up the host: "} + ::gai_strerror(code));
}

addrinfo hints_for(int flags) {
    addrinfo result{};
    result.ai_socktype = SOCK_STREAM;
    result.ai_flags = AI_NUMERICSERV | flags;
    return result;
}

int system_lookup(const info_endpoint& endpoint, addrinfo** found) {
    const auto hints = hints_for(0);
    return ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints,
                         found);
}

} // namespace

struct name_lookup::running {
    /// Readable, for all who wait, once `result` is there.
    unique_fd done{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    std::optional<caf::expected<address_list>> result;
};

/// Outlives the lookup: threads that hang in the C library hold it.
struct name_lookup::shared {
    std::mutex mutex;
    std::map<info_endpoint, std::shared_ptr<running>> by_endpoint;
};

name_lookup::name_lookup(system_call call)
    : call_(std::move(call)), shared_(std::make_shared<shared>()) {}

name_lookup& name_lookup::of_this_process() {
    static auto& result = *new name_lookup{&system_lookup};
    return result;
}

caf::expected<address_list> name_lookup::find(const info_endpoint& endpoint,
                                              const patience& limit) {
    if (!canonical_address(endpoint.host).empty()) { // needs no asking around
        const auto hints = hints_for(AI_NUMERICHOST);
        addrinfo* found = nullptr;
        const auto code = ::getaddrinfo(endpoint.host.c_str(),
                                        std::to_string(endpoint.port).c_str(), &hints, &found);
        return to_result(code, found);
    }
    const auto began = clock::now();
    std::shared_ptr<running> mine;
    {
        std::lock_guard lock{shared_->mutex};
        auto& known = shared_->by_endpoint;
        if (auto found = known.find(endpoint); found != known.end()) {
            mine = found->second;
        } else if (known.size() >= running_max) {
            return make_error(errc::limit_exceeded,
                              "looking up {}: {} other names are being looked up, and nobody "
                              "answers; check the resolver of this machine",
                              endpoint.host, running_max);
        } else {
            mine = std::make_shared<running>();
            if (!mine->done)
                return system_error(errc::system_call_failed, "eventfd",
                                    "raise the limit of descriptors");
            auto thread =
                make_thread("a name's lookup", [endpoint, mine, all = shared_, call = call_] {
                    addrinfo* found = nullptr;
                    const auto code = call(endpoint, &found);
                    std::lock_guard inner{all->mutex};
                    mine->result = to_result(code, found);
                    all->by_endpoint.erase(endpoint);
                    ::eventfd_write(mine->done.get(), 1);
                });
            if (!thread)
                return std::move(thread.error());
            thread->detach();
            known.emplace(endpoint, mine);
        }
    }
    if (auto problem = wait_for(mine->done.get(), POLLIN, limit)) {
        if (code_of(problem) != errc::deadline_exceeded)
            return problem;
        return make_error(
            errc::deadline_exceeded,
            "looking up {} took longer than {}; check the name and the resolver of this machine",
            endpoint.host, duration_text(clock::now() - began));
    }
    std::lock_guard lock{shared_->mutex};
    return *mine->result;
}

} // namespace kvferry
