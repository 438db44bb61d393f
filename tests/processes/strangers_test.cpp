// SPDX-License-Identifier: Apache-2.0
// Ranks as processes among strangers: with another secret, another certificate, with none, of
// another user. Nobody of them gets a page or a place, each hears why, and the instance goes on.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/certificates.hpp"
#include "tests/support/secret_file.hpp"

#include <cstdlib>
#include <filesystem>

namespace kvferry::testing {

namespace {

bool shell(const std::string& command) {
    return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0;
}

#define REQUIRE_OPENSSL()                                                                          \
    if (!shell("KVFERRY_SECRET=" + secret_one + " " + rank_program()                               \
               + " doctor --json | grep -q 'every connection needs'")) {                           \
        MESSAGE("skipped: this build has no OpenSSL");                                             \
        return;                                                                                    \
    }

instance_processes::options rank_of(const std::string& name, std::vector<std::string> flags,
                                    launch how = {}) {
    return {name, 1, 1, small_model, 16, std::move(flags), std::move(how)};
}

/// A stranger asks for what the context has of this request.
json outcome_for(instance_processes& stranger, const std::string& endpoint, const request& x) {
    receive(stranger, endpoint, x, {{"deadline_ms", 4000}});
    const auto result = stranger[0].outcome(x.rid);
    INFO(result.dump());
    CHECK(result.at("state") == "ERROR");
    return result;
}

std::vector<std::string> shows(const std::string& cert, const std::string& key,
                               const std::string& ca, const std::string& lets_in) {
    return {"--cert-file", cert, "--key-file", key, "--ca-file", ca, "--peer-names", lets_in};
}

std::vector<std::string> shows(const certificates& by, const std::string& name,
                               const std::string& ca,
                               const std::string& lets_in = "*.ranks.example") {
    return shows(by.cert(name), by.key(name), ca, lets_in);
}

/// What openssl hears at a port when it shows this, and says nothing.
std::string heard_by_openssl(const std::string& endpoint, std::vector<std::string> words) {
    words.insert(words.begin(), {"openssl", "s_client", "-connect", endpoint, "-tls1_3"});
    int silence[2];
    REQUIRE(::pipe2(silence, O_CLOEXEC) == 0);
    const unique_fd input{silence[0]}, open_end{silence[1]};
    program stranger{std::move(words), input.get()};
    stranger.says("alert");
    return stranger.said;
}

} // namespace

TEST_CASE("strangers: with certificates a request's pages go to names that are let in, on every "
          "connection, and everybody else is refused by name") {
    REQUIRE_OPENSSL();
    if (!is_installed("openssl", "openssl"))
        return;
    const certificates ours, theirs;
    ours.sign("prefill", 2, "DNS:prefill-0.ranks.example");
    ours.sign("decode", 2, "DNS:decode-0.ranks.example");
    ours.sign("guest", 2, "DNS:guest.other.example");
    ours.sign("ended", 0, "DNS:decode-0.ranks.example");
    theirs.sign("decode", 2, "DNS:decode-0.ranks.example");
    const secret_file secret{secret_one};
    // A rank talks to its own instance, so the strangers let themselves in.
    std::ostringstream authorities;
    for (const auto* each : {&ours, &theirs})
        authorities << std::ifstream{each->ca()}.rdbuf();
    const secret_file both{authorities.str()};
    for (const std::string wire : {"mapped", "direct, tcp"}) {
        CAPTURE(wire);
        const auto with = [&](const std::string& name, std::vector<std::string> flags) {
            for (const auto& each : flags_of(wire))
                flags.push_back(each);
            return rank_of(name, std::move(flags));
        };
        ::setenv("KVFERRY_LOG", "warn", 1);
        instance_processes context{with("context", shows(ours, "prefill", ours.ca()))};
        ::unsetenv("KVFERRY_LOG");
        const auto x = whole_blocks(7, 2, 16);
        send(context, x);
        struct row {
            std::vector<std::string> flags;
            const char* hears;
        };
        for (const auto& [flags, hears] :
             {row{shows(theirs, "decode", both.path()), "does not accept this one's certificate"},
              row{shows(ours, "guest", ours.ca(), "*.ranks.example,*.other.example"),
                  "does not accept this one's certificate"},
              row{shows(theirs, "decode", theirs.ca()), "no authority of"},
              row{shows(ours, "guest", ours.ca(), "*.other.example"),
                  "(prefill-0.ranks.example) has none of the names"},
              row{{"--secret-file", secret.path()}, "shows a certificate in place of"},
              row{{}, "certificates (it speaks TLS)"},
              row{{"--insecure"}, "certificates (it speaks TLS)"}}) {
            instance_processes stranger{with("generation", flags)};
            const auto error = outcome_for(stranger, context.endpoint, x).at("error");
            CHECK(error.at("code") == "foreign_peer");
            CHECK_MESSAGE(error.dump().find(hears) != std::string::npos, error.dump());
        }
        // The first refusal is in the log, whatever comes after it.
        const auto log = context[0].log();
        CHECK_MESSAGE(log.find("refuses 127.0.0.1") != std::string::npos, log);
        CHECK_MESSAGE(log.find("no authority of " + ours.ca()) != std::string::npos, log);
        // At the door of the rank-info server, as any program of TLS.
        CHECK(heard_by_openssl(context.endpoint, {}).find("certificate required")
              != std::string::npos);
        CHECK(heard_by_openssl(context.endpoint,
                               {"-cert", ours.cert("ended"), "-key", ours.key("ended")})
                  .find("certificate expired")
              != std::string::npos);
        instance_processes generation{with("generation", shows(ours, "decode", ours.ca()))};
        receive(generation, context.endpoint, x);
        expect_success(generation[0], x, "");
        expect_content(generation[0], x);
        expect_clean_stop(generation);
        expect_clean_stop(context);
    }
}

TEST_CASE(
    "strangers: certificates change under running ranks: who was let in is no longer, who was not "
    "is, and an open link goes on") {
    REQUIRE_OPENSSL();
    if (!is_installed("openssl", "openssl"))
        return;
    const certificates before, after;
    for (const auto* authority : {&before, &after})
        authority->sign("rank", 2, "DNS:a.ranks.example");
    const scratch folder;
    const auto path = [&](const std::string& name) { return (folder.path / name).string(); };
    const auto put = [&](const std::string& name, const std::string& content_of) {
        std::filesystem::copy_file(content_of, path("fresh"));
        std::filesystem::rename(path("fresh"), path(name));
    };
    const auto rotate_to = [&](const certificates& x) {
        put("key", x.key("rank"));
        put("cert", x.cert("rank"));
        put("ca", x.ca());
    };
    rotate_to(before);
    auto flags = shows(path("cert"), path("key"), path("ca"), "*.ranks.example");
    flags.insert(flags.end(), {"--route", "direct", "--wire", "tcp", "--no-same-host-link"});
    instance_processes context{rank_of("context", flags)};
    instance_processes old{rank_of("generation", flags)};
    const auto ask = [&](instance_processes& from, std::uint64_t rid) {
        const auto x = whole_blocks(rid, 2, 16);
        send(context, x);
        receive(from, context.endpoint, x);
        expect_success(from[0], x, "direct");
        expect_content(from[0], x);
    };
    ask(old, 1);
    rotate_to(after);
    ask(old, 2); // over the link that is open
    const auto still_before = shows(before, "rank", before.ca());
    instance_processes late{rank_of("generation", still_before)};
    CHECK(outcome_for(late, context.endpoint, whole_blocks(3, 2, 16)).at("error").at("code")
          == "foreign_peer");
    auto with_after = shows(after, "rank", after.ca());
    with_after.insert(with_after.end(),
                      {"--route", "direct", "--wire", "tcp", "--no-same-host-link"});
    instance_processes fresh{rank_of("generation", with_after)};
    ask(fresh, 4);
    expect_clean_stop(fresh);
    expect_clean_stop(old);
    expect_clean_stop(context);
}

TEST_CASE("strangers: a request's pages go to who has the secret, and to nobody else, whoever asks "
          "first") {
    REQUIRE_OPENSSL();
    const secret_file ours{secret_one};
    const secret_file theirs{secret_two};
    ::setenv("KVFERRY_LOG", "warn", 1);
    instance_processes context{rank_of("context", {"--secret-file", ours.path()})};
    ::unsetenv("KVFERRY_LOG");
    const auto x = whole_blocks(7, 2, 16);
    send(context, x);
    {
        instance_processes wrong{rank_of("generation", {"--secret-file", theirs.path()})};
        const auto outcome = outcome_for(wrong, context.endpoint, x);
        CHECK(outcome.at("error").at("code") == "foreign_peer");
        instance_processes none{rank_of("generation", {})};
        CHECK(outcome_for(none, context.endpoint, x).at("error").at("code") == "foreign_peer");
        instance_processes open{rank_of("generation", {"--insecure"})};
        CHECK(outcome_for(open, context.endpoint, x).at("error").at("code") == "foreign_peer");
    }
    instance_processes generation{rank_of("generation", {"--secret-file", ours.path()})};
    receive(generation, context.endpoint, x);
    expect_success(generation[0], x, "mapped");
    expect_content(generation[0], x);
    CHECK(context[0].log().find("refuses 127.0.0.1") != std::string::npos);
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

TEST_CASE("strangers: no rank without the secret enters an instance, and its place stays free") {
    REQUIRE_OPENSSL();
    const secret_file ours{secret_one};
    const secret_file theirs{secret_two};
    const std::string layout = "tp=2,pp=1,pp_rank=0,attention_dp=0,tp_rank=";
    const auto flags = [&](const std::string& rank, const secret_file& secret) {
        return std::vector<std::string>{"--instance",    "context",    "--layout", layout + rank,
                                        "--model",       small_model,  "--slots",  "16",
                                        "--secret-file", secret.path()};
    };
    // Rank 0 waits for rank 1 before it is ready, but listens at once.
    rank_process rank_0{flags("0", ours)};
    const auto endpoint = rank_0.info_endpoint();
    auto fake = flags("1", theirs);
    fake.insert(fake.end(), {"--info-endpoint", endpoint, "--dial-deadline", "1500"});
    rank_process impostor{fake};
    const auto why = impostor.wait_for("error");
    INFO(why.dump());
    CHECK(why.at("error").at("code") == "foreign_peer");
    auto real = flags("1", ours);
    real.insert(real.end(), {"--info-endpoint", endpoint});
    rank_process rank_1{real};
    CHECK(rank_1.ready().at("event") == "ready");
}

TEST_CASE(
    "strangers: another user of this machine is neither served nor believed without a secret") {
    const std::string user = "setpriv --reuid=64998 --regid=64998 --clear-groups ";
    if (!shell(user + rank_program() + " --version")) {
        MESSAGE("skipped: this process cannot become another user");
        return;
    }
    const launch as_other{{"setpriv", "--reuid=64998", "--regid=64998", "--clear-groups"}};
    instance_processes context{rank_of("context", {})};
    const auto x = whole_blocks(7, 2, 16);
    send(context, x);
    instance_processes stranger{rank_of("generation", {}, as_other)};
    const auto outcome = outcome_for(stranger, context.endpoint, x);
    CHECK(outcome.at("error").at("code") == "foreign_peer");
    // The other way round: a context that somebody else runs here.
    instance_processes generation{rank_of("generation", {})};
    instance_processes fake{rank_of("context", {}, as_other)};
    CHECK(outcome_for(generation, fake.endpoint, whole_blocks(8, 2, 16)).at("error").at("code")
          == "foreign_peer");
    receive(generation, context.endpoint, x);
    expect_success(generation[0], x, "mapped");
    expect_clean_stop(generation);
    expect_clean_stop(context);
}

} // namespace kvferry::testing
