// SPDX-License-Identifier: Apache-2.0
// The mode that options and environment come to, and what each mode lets in.
#include "messages/errors.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"
#include "transport/loop/unique_fd.hpp"
#include "transport/secure/deployment_secret.hpp"
#include "transport/secure/security.hpp"
#include "transport/secure/socket_owner.hpp"

#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

using namespace kvferry;
using namespace kvferry::testing;

namespace {

std::string refusal_of(const security_options& options) {
    auto made = security::make(options);
    return made ? "" : describe(made.error());
}

unique_fd listener(std::uint16_t& port) {
    unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(fd.get(), 4) == 0);
    REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
    return fd;
}

unique_fd connected_to(std::uint16_t port) {
    unique_fd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    return fd;
}

} // namespace

TEST_CASE("deployment_secret: lines are secrets, and what is none is refused by its line") {
    auto one = parse_secrets("# ours\n\n  " + secret_one + " \r\n" + secret_two, "x");
    REQUIRE(one);
    CHECK(*one == std::vector{secret_one, secret_two});
    for (const auto& [text, why] :
         {std::pair<std::string, std::string>{"", "has no secret"},
          {"\n# only words\n", "has no secret"},
          {secret_one + "\nshort", "line 2 has 5 characters"},
          {std::string(2000, 'x'), "has 2000 characters"},
          {std::string(20, 'x') + " " + std::string(20, 'y'), "blanks"},
          {secret_one + "\n" + secret_one, "repeats"},
          {std::string(32, 'a') + "\n" + std::string(32, 'b') + "\n" + std::string(32, 'c') + "\n"
               + std::string(32, 'd') + "\n" + std::string(32, 'e'),
           "more than 4"}}) {
        auto refused = parse_secrets(text, "x");
        REQUIRE_FALSE(refused);
        CHECK(code_of(refused.error()) == errc::invalid_argument);
        CHECK_MESSAGE(contains(text_of(refused.error()), why), describe(refused.error()));
    }
}

TEST_CASE("deployment_secret: a file that others may read or change is refused by name") {
    const secret_file good{secret_one + "\n"};
    CHECK(*read_secret_file(good.path()) == secret_one + "\n");
    const secret_file of_group{secret_one, 0440};
    CHECK(read_secret_file(of_group.path()));
    for (mode_t mode : {0644, 0660, 0602}) {
        const secret_file open{secret_one, mode};
        auto refused = read_secret_file(open.path());
        REQUIRE_FALSE(refused);
        CHECK(contains(text_of(refused.error()), open.path()));
        CHECK(contains(text_of(refused.error()), "chmod 600"));
    }
    CHECK_FALSE(read_secret_file("/nowhere/at/all"));
    CHECK_FALSE(read_secret_file("/tmp"));
    const secret_file huge{std::string(100000, 'x')};
    CHECK_FALSE(read_secret_file(huge.path()));
}

TEST_CASE("security: the options decide, then the environment, else only this user is served") {
    ::unsetenv("KVFERRY_SECRET");
    ::unsetenv("KVFERRY_SECRET_FILE");
    CHECK((*security::make({}))->how() == security::mode::same_user);
    CHECK((*security::make({.insecure = true}))->how() == security::mode::insecure);
    CHECK(contains(refusal_of({.secret = secret_one, .insecure = true}), "exclude each other"));
    CHECK(contains(refusal_of({.secret = "short"}), "openssl rand -hex 32"));
    const secret_file file{secret_two};
    ::setenv("KVFERRY_SECRET", secret_one.c_str(), 1);
    const auto from_text = security::make({});
    ::setenv("KVFERRY_SECRET_FILE", file.path().c_str(), 1);
    const auto from_file = security::make({});
    const auto open = security::make({.insecure = true});
    ::unsetenv("KVFERRY_SECRET");
    ::unsetenv("KVFERRY_SECRET_FILE");
    REQUIRE(open);
    CHECK((*open)->how() == security::mode::insecure);
    if (!from_text && code_of(from_text.error()) == errc::unsupported)
        return; // a build without OpenSSL refuses a secret
    REQUIRE(from_text);
    REQUIRE(from_file);
    CHECK((*from_text)->how() == security::mode::secret);
    CHECK(contains((*from_file)->describe(), file.path()));
    CHECK_FALSE(contains((*from_file)->describe(), secret_two));
}

TEST_CASE("security: without a secret other machines are neither served nor asked, with words that "
          "say what to do") {
    const auto none = *security::make({});
    for (const auto* address : {"0.0.0.0", "::", "10.0.0.7", "fd00::7"}) {
        const auto bind = none->check_bind(address);
        CHECK(code_of(bind) == errc::foreign_peer);
        CHECK(contains(text_of(bind), "KVFERRY_SECRET_FILE"));
        CHECK(contains(text_of(bind), "--insecure"));
        CHECK(code_of(none->check_dial(address)) == errc::foreign_peer);
        CHECK_FALSE(security::none()->check_bind(address));
        CHECK_FALSE(security::none()->check_dial(address));
    }
    for (const auto* address : {"127.0.0.1", "127.9.9.9", "::1", "localhost"}) {
        CHECK_FALSE(none->check_bind(address));
        CHECK_FALSE(none->check_dial(address));
    }
    CHECK_FALSE(none->check_dial("prefill.example")); // where it leads is found out later
    CHECK(none->check_bind("prefill.example"));
}

TEST_CASE("security: without a secret only this user's processes are served and asked") {
    const auto none = *security::make({});
    std::uint16_t port = 0;
    const auto door = listener(port);
    {
        const auto mine = connected_to(port);
        const unique_fd accepted{::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        CHECK(peer_address(accepted.get()) == "127.0.0.1");
        const auto in = none->check_accepted(accepted.get());
        CHECK_MESSAGE(!in, describe(in));
        const auto out = none->check_dialled(mine.get());
        CHECK_MESSAGE(!out, describe(out));
    }
    if (::geteuid() != 0) {
        MESSAGE("the rest needs root: only that can become somebody else");
        return;
    }
    // A stranger asks, and a stranger listens.
    std::uint16_t foreign_port = 0;
    int ready[2], done[2];
    REQUIRE(::pipe(ready) == 0);
    REQUIRE(::pipe(done) == 0);
    const auto child = ::fork();
    if (child == 0) {
        if (::setuid(65534) != 0)
            ::_exit(1);
        std::uint16_t of_child = 0;
        const auto listening = listener(of_child);
        const auto asking = connected_to(port);
        if (::write(ready[1], &of_child, sizeof of_child) != sizeof of_child)
            ::_exit(1);
        char ignored;
        ::_exit(::read(done[0], &ignored, 1) == 1 ? 0 : 1);
    }
    REQUIRE(::read(ready[0], &foreign_port, sizeof foreign_port) == sizeof foreign_port);
    const unique_fd accepted{::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC)};
    const auto in = none->check_accepted(accepted.get());
    CHECK(code_of(in) == errc::foreign_peer);
    CHECK(contains(text_of(in), "user 65534"));
    const auto dialled = connected_to(foreign_port); // which nobody has accepted yet
    const auto out = none->check_dialled(dialled.get());
    CHECK(code_of(out) == errc::foreign_peer);
    CHECK(contains(text_of(out), "user 65534"));
    CHECK_FALSE(security::none()->check_accepted(accepted.get()));
    REQUIRE(::write(done[1], "x", 1) == 1);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    for (int fd : {ready[0], ready[1], done[0], done[1]})
        ::close(fd);
}
