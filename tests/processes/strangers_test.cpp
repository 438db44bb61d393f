// SPDX-License-Identifier: Apache-2.0
// Ranks as processes among strangers: with another secret, with none, of another user. Nobody of
// them gets a page or a place, each hears why, and the instance goes on.
#include "tests/processes/end_to_end.hpp"
#include "tests/support/secret_file.hpp"

#include <cstdlib>

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

} // namespace

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
