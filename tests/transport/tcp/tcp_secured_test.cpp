// SPDX-License-Identifier: Apache-2.0
// The tcp wire with a secret, or certificates, keeps the fabric's promises, all of it encrypted and
// with plain bulk; and whoever does not show what it must is named on both sides and gets nothing.
#include "tests/support/certificates.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"
#include "tests/transport/fabric/fabric_conformance.hpp"
#include "tests/transport/fabric/fabric_loops.hpp"
#include "tests/transport/fabric/fabric_staging_conformance.hpp"
#include "tests/transport/tcp/raw_peer.hpp"
#include "tests/transport/tcp/spawn_tcp.hpp"
#include "transport/secure/security.hpp"

namespace kvferry::testing {

namespace {

security_ptr with_secret(const std::string& lines) {
    auto made = security::make({.secret = lines});
    return made ? *made : security::none(); // a build without OpenSSL tests the plain twin again
}

bool has_openssl() {
    return with_secret(secret_one)->needs_proof();
}

} // namespace

struct secured_kit : fabric_loops {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink, tcp_options how) {
        fabric_dependencies with{.self = self, .default_sink = sink, .bounds = {}};
        auto made = spawn_tcp(system(), loop(number), with, std::move(how));
        REQUIRE_MESSAGE(made, describe(made.error()));
        return keep(number, *made);
    }
};

struct tcp_kit_with_secret : secured_kit {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(number, self, sink, {.secured = with_secret(secret_one)});
    }
};

/// Each side lets in the other one, not itself.
struct tcp_kit_with_certificates : secured_kit {
    static security_ptr shows(const std::string& name, const std::string& lets_in) {
        if (!has_openssl() || !is_installed("openssl", "openssl"))
            return security::none();
        static const auto& files = [] {
            auto& made = *new certificates; // kept until the end
            for (const std::string each : {"writer", "target", "guest"})
                made.sign(each, 2, "DNS:" + each + ".ranks.example");
            return made;
        }();
        auto made = security::make({.cert_file = files.cert(name),
                                    .key_file = files.key(name),
                                    .ca_file = files.ca(),
                                    .peer_names = {lets_in + ".ranks.example"}});
        REQUIRE_MESSAGE(made, describe(made.error()));
        return *made;
    }

    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(
            number, self, sink,
            {.secured = number == 0 ? shows("writer", "target") : shows("target", "writer")});
    }
};

struct tcp_kit_of_plain_bulk : secured_kit {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(
            number, self, sink,
            {.bulk_sockets = 2, .secured = with_secret(secret_one), .plain_bulk = true});
    }
};

struct tcp_kit_with_secret_and_threads : secured_kit {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(number, self, sink,
                                  {.threads = 2, .secured = with_secret(secret_one)});
    }
};

/// Both have what the case gives them; the target the first secret, if nothing else.
struct tcp_kit_of_strangers : secured_kit {
    static inline tcp_options of_writer = {};
    static inline security_ptr of_target = {};

    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        const auto target = of_target ? of_target : with_secret(secret_one);
        return secured_kit::spawn(number, self, sink,
                                  number == 0 ? of_writer : tcp_options{.secured = target});
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::tcp_kit_with_secret);
TYPE_TO_STRING(kvferry::testing::tcp_kit_of_plain_bulk);
TYPE_TO_STRING(kvferry::testing::tcp_kit_with_secret_and_threads);
TYPE_TO_STRING(kvferry::testing::tcp_kit_with_certificates);
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_with_secret)
KVFERRY_FABRIC_STAGING_CONFORMANCE(tcp_kit_with_secret)
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_of_plain_bulk)
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_with_secret_and_threads)
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_with_certificates)

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("tcp wire: a rank with another secret or certificate, or none, makes no link, and hears "
          "why") {
    if (!has_openssl()) {
        MESSAGE("skipped: this build has no OpenSSL");
        return;
    }
    struct row {
        security_ptr target, writer;
        const char* why;
    };
    using certified = tcp_kit_with_certificates;
    std::vector<row> rows{{{}, with_secret(secret_two), "does not accept the deployment secret"},
                          {{}, security::none(), "the other side has a deployment secret"},
                          {{}, security::of_this_user(), "the other side has a deployment secret"}};
    if (const auto target = certified::shows("target", "writer"); target->needs_proof())
        rows.insert(rows.end(),
                    {{target, certified::shows("guest", "target"), "does not accept this one's"},
                     {target, certified::shows("writer", "guest"), "has none of the names"},
                     {target, with_secret(secret_one), "shows a certificate in place of"},
                     {target, security::none(), "certificates (it speaks TLS)"}});
    for (const auto& [target, writer, why] : rows) {
        CAPTURE(why);
        tcp_kit_of_strangers::of_target = target;
        tcp_kit_of_strangers::of_writer = {.secured = writer};
        fabric_memory memory(4096);
        fabric_pair<tcp_kit_of_strangers> pair;
        pair.open({pair.share(memory)});
        const auto failed = pair.probe.next<endpoint_failed>();
        CHECK_MESSAGE(contains(text_of(failed.reason), why), describe(failed.reason));
    }
    tcp_kit_of_strangers::of_target = {};
}

TEST_CASE(
    "tcp wire: bytes of pages without protection go where both sides want it, and are refused "
    "by name elsewhere") {
    if (!has_openssl()) {
        MESSAGE("skipped: this build has no OpenSSL");
        return;
    }
    tcp_kit_of_strangers::of_writer = {.secured = with_secret(secret_one), .plain_bulk = true};
    const scattered_put shape{16, 64, 16384};
    fabric_memory source(shape.source_bytes()), target(shape.target_bytes()); // outlive the fabrics
    fabric_pair<tcp_kit_of_strangers> pair;
    auto over = pair.open({pair.share(target)});
    pair.put(over, shape.job(source.address(), target.address()));
    const auto failed = pair.probe.next<endpoint_failed>();
    CHECK_MESSAGE(contains(text_of(failed.reason), "plain_bulk"), describe(failed.reason));
}

TEST_CASE(
    "tcp wire: plain words, garbage and a hello in the clear get an alert and nothing else where "
    "there is a secret") {
    if (!has_openssl()) {
        MESSAGE("skipped: this build has no OpenSSL");
        return;
    }
    fabric_pair<tcp_kit_with_secret> pair;
    const auto address = *parse_address(pair.address_of(pair.target));
    for (const auto& words :
         {byte_buffer(48), byte_buffer(5000, caf::byte{0x47}),
          pack_hello({pair.target_id, pair.writer_id, address.secret, tcp_lane::frames})}) {
        raw_peer stranger{address.port};
        stranger.send(words);
        CHECK(stranger.rest().size() <= 7);
    }
    fabric_memory memory(4096);
    pair.check_alive(pair.open({pair.share(memory)}), memory);
}
