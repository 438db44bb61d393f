// SPDX-License-Identifier: Apache-2.0
// A real etcd beside a test, and the instances that are listed there.
#pragma once

#include "tests/processes/end_to_end.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/other_program.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>

namespace kvferry::testing {

inline std::uint16_t free_port() {
    const unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    return ntohs(address.sin_port);
}

/// One member of etcd, with its data in a folder of the test.
class etcd {
public:
    /// With certificates it speaks TLS, and asks clients for theirs.
    explicit etcd(const certificates* shown = nullptr)
        : url((shown ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(free_port())),
          shown_(shown) {
        start();
    }

    void start() {
        if (!data_)
            data_.emplace();
        const auto peers = "http://127.0.0.1:" + std::to_string(peer_port_);
        std::vector<std::string> words{"etcd",
                                       "--data-dir",
                                       data_->path.string(),
                                       "--listen-client-urls",
                                       url,
                                       "--advertise-client-urls",
                                       url,
                                       "--listen-peer-urls",
                                       peers,
                                       "--initial-advertise-peer-urls",
                                       peers,
                                       "--initial-cluster",
                                       "default=" + peers,
                                       "--bcrypt-cost",
                                       "4"};
        if (shown_)
            for (const auto& word :
                 {std::string{"--client-cert-auth"}, std::string{"--trusted-ca-file"}, shown_->ca(),
                  std::string{"--cert-file"}, shown_->cert("server"), std::string{"--key-file"},
                  shown_->key("server")})
                words.push_back(word);
        running_.emplace(std::move(words));
        REQUIRE(running_->says("ready to serve client requests"));
    }
    /// SIGKILL.
    void kill() { running_->kill(); }
    void forget_everything() { data_.reset(); }

    const std::string url;

private:
    const certificates* shown_;
    const std::uint16_t peer_port_ = free_port();
    std::optional<scratch> data_;
    std::optional<program> running_;
};

class deployment {
public:
    explicit deployment(const certificates* shown = nullptr) : directory(shown) {}

    etcd directory;
    /// Who asks.
    std::vector<std::string> identity;

    std::vector<std::string> flags(const std::string& role = "any") const {
        std::vector<std::string> result{"--etcd", directory.url, "--etcd-lease",    "1",
                                        "--role", role,          "--dial-deadline", "2000"};
        result.insert(result.end(), identity.begin(), identity.end());
        return result;
    }
    instance_processes::options one(const std::string& name, const std::string& role) const {
        return {name, 1, 1, small_model, 64, flags(role)};
    }

    json listed() const {
        std::vector<std::string> words{rank_program(), "instances", "--json", "--etcd",
                                       directory.url};
        words.insert(words.end(), identity.begin(), identity.end());
        program shown{std::move(words)};
        const auto status = shown.status();
        INFO(shown.said);
        REQUIRE(status == 0);
        return json::parse(shown.said).at("instances");
    }
    /// Looks until that instance is listed as `wanted`; null: until it is not listed.
    json await(const std::string& name, const json& wanted) const {
        const auto until = std::chrono::steady_clock::now() + 20s;
        json last;
        while (std::chrono::steady_clock::now() < until) {
            last = listed();
            json found;
            for (const auto& each : last)
                if (each.at("name") == name)
                    found = each;
            auto fits = found.is_null() == wanted.is_null();
            for (const auto& [key, value] : wanted.items())
                fits = fits && found.at(key) == value;
            if (fits)
                return found;
        }
        FAIL(name << " is never listed as " << wanted.dump() << ": " << last.dump());
        return {};
    }
};

inline void transfer(instance_processes& context, instance_processes& generation,
                     const std::string& address, std::uint64_t rid) {
    const request x{rid, {0, 1}, {2, 3}, 32, false};
    send(context, x);
    receive(generation, address, x);
    expect_success(generation[0], x, "");
    expect_content(generation[0], x);
    expect_success(context[0], x, "");
}

inline bool no_etcd() {
    return !is_installed("etcd", "etcd-server");
}

} // namespace kvferry::testing
