// SPDX-License-Identifier: Apache-2.0
// A real etcd that asks who is there: TLS with certificates on both sides, users and passwords, and
// what people read when something of it is wrong or there is none. It says "skipped: " where etcd
// is not installed.
#include "actors/discovery/base64.hpp"
#include "actors/http/http_client.hpp"
#include "tests/processes/etcd.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"

namespace kvferry::testing {

namespace {

bool no_etcd_with_tls() {
    return no_etcd() || !is_installed("openssl", "openssl");
}

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

std::vector<std::string> shows(const certificates& x, const std::string& name) {
    return {"--etcd-ca", x.ca(), "--etcd-cert", x.cert(name), "--etcd-key", x.key(name)};
}

/// Speaks for root.
class administrator {
public:
    administrator(const std::string& url, const certificates& x)
        : url_(url),
          http_(std::move(*http_client::make({x.ca(), x.cert("client"), x.key("client")}))) {}

    json ask(const std::string& path, const json& question) {
        const auto answer = http_.post(url_ + path, question.dump(), 20s);
        REQUIRE(answer);
        INFO(path << ": " << answer->body);
        REQUIRE(answer->status == 200);
        return json::parse(answer->body);
    }
    /// From now on etcd asks; that user may do all below /kvferry/.
    void turn_on(const std::string& user, const std::string& password) {
        ask("/v3/auth/user/add", {{"name", "root"}, {"password", "root's"}});
        ask("/v3/auth/role/add", {{"name", "root"}});
        ask("/v3/auth/user/grant", {{"user", "root"}, {"role", "root"}});
        ask("/v3/auth/role/add", {{"name", "ranks"}});
        ask("/v3/auth/role/grant", {{"name", "ranks"},
                                    {"perm",
                                     {{"permType", "READWRITE"},
                                      {"key", to_base64("/kvferry/")},
                                      {"range_end", to_base64("/kvferry0")}}}});
        ask("/v3/auth/user/add", {{"name", user}, {"password", password}});
        ask("/v3/auth/user/grant", {{"user", user}, {"role", "ranks"}});
        ask("/v3/auth/user/add", {{"name", "guest"}, {"password", "guest's"}});
        ask("/v3/auth/enable", json::object());
        const auto me = ask("/v3/auth/authenticate", {{"name", "root"}, {"password", "root's"}});
        http_.authorize(me.at("token"));
    }
    void change_password(const std::string& user, const std::string& password) {
        ask("/v3/auth/user/changepw", {{"name", user}, {"password", password}});
    }

private:
    std::string url_;
    http_client http_;
};

/// What `kvferry instances` says with these flags; it must fail.
std::string refused(const std::string& url, const std::vector<std::string>& identity) {
    program shown{joined({rank_program(), "instances", "--etcd", url}, identity)};
    CHECK(WEXITSTATUS(shown.status()) == 1);
    return shown.said;
}

} // namespace

TEST_CASE("discovery: with TLS, certificates on both sides and users, instances are found; a new "
          "password needs no restart, and etcd may begin to ask under running ranks") {
    if (no_etcd_with_tls())
        return;
    certificates known;
    known.sign("server");
    known.sign("client");
    deployment all{&known};
    const secret_file password{"first\n"};
    all.identity = joined(shows(known, "client"),
                          {"--etcd-user", "ranks", "--etcd-password-file", password.path()});
    instance_processes context{all.one("prefill-3", "context")};
    instance_processes generation{all.one("decode-0", "generation")};
    transfer(context, generation, "etcd:prefill-3", 1);

    administrator root{all.directory.url, known};
    root.turn_on("ranks", "first");
    context[0].ask({{"do", "role"}, {"role", "generation"}});
    all.await("prefill-3", {{"role", "generation"}});

    std::ofstream{password.path()} << "second";
    root.change_password("ranks", "second");
    context[0].ask({{"do", "role"}, {"role", "context"}});
    all.await("prefill-3", {{"role", "context"}});
    instance_processes late{all.one("prefill-4", "context")};
    transfer(late, generation, "etcd:prefill-4", 2);
    CHECK(late[0].stop() == 0);
    all.await("prefill-4", nullptr);
}

TEST_CASE("discovery: a wrong password, a user without rights, and certificates that are missing, "
          "of another authority or past their end: each is told by its name") {
    if (no_etcd_with_tls())
        return;
    certificates known;
    known.sign("server");
    known.sign("client");
    const certificates stranger;
    stranger.sign("client");
    deployment all{&known};
    administrator{all.directory.url, known}.turn_on("ranks", "right");
    const secret_file right{"right"};
    const secret_file wrong{"wrong"};
    const secret_file guests{"guest's"};
    const auto certificate = shows(known, "client");
    const auto as = [&](const char* user, const secret_file& password) {
        return joined(certificate, {"--etcd-user", user, "--etcd-password-file", password.path()});
    };
    const auto url = all.directory.url;
    CHECK(contains(refused(url, as("ranks", wrong)),
                   "etcd at " + url + ": it refuses user 'ranks' with the password in "
                       + wrong.path()));
    CHECK(contains(refused(url, as("nobody", right)), "it refuses user 'nobody'"));
    CHECK(contains(refused(url, as("guest", guests)), "give user 'guest' a role"));
    CHECK(contains(refused(url, certificate), "user name is empty"));
    CHECK(contains(refused(url, {}), "certificate")); // signed by nobody the system knows
    CHECK(contains(refused(url, {"--etcd-ca", stranger.ca()}), "certificate"));
    CHECK(contains(refused(url, {"--etcd-ca", known.ca()}), "asks for a certificate"));
    CHECK(contains(refused(url, {"--etcd-ca", known.ca(), "--etcd-cert", stranger.cert("client"),
                                 "--etcd-key", stranger.key("client")}),
                   "asks for a certificate"));

    // A rank goes on; whoever waits for a name is told.
    all.identity = as("ranks", wrong);
    instance_processes generation{all.one("decode-0", "generation")};
    const request x{1, {0}, {1}, 16, false};
    receive(generation, "etcd:prefill-3", x, {{"deadline_ms", 3000}});
    const auto outcome = generation[0].outcome(x.rid);
    INFO(outcome.dump());
    CHECK(outcome.at("state") == "ERROR");
    CHECK(contains(outcome.at("error").at("text").get<std::string>(), "refuses user 'ranks'"));
    generation[0].released(x.rid);
    std::ofstream{wrong.path()} << "right";
    all.await("decode-0", {{"role", "generation"}});

    all.directory.kill();
    known.sign("server", 0);
    all.directory.start();
    CHECK(contains(refused(url, as("ranks", right)), "certificate has expired"));
}

TEST_CASE("discovery: without etcd the program says where it looked") {
    const auto url = "http://127.0.0.1:" + std::to_string(free_port());
    program shown{{rank_program(), "instances", "--etcd", url}};
    CHECK(WEXITSTATUS(shown.status()) == 1);
    CHECK(contains(shown.said, "etcd at " + url));
    program wrong{{rank_program(), "instances", "--etcd", "127.0.0.1:1"}};
    CHECK(WEXITSTATUS(wrong.status()) == 2);
    CHECK(contains(wrong.said, "is not http://host:port"));
}

} // namespace kvferry::testing
