// SPDX-License-Identifier: Apache-2.0
// The tcp wire with a secret keeps the fabric's promises, all of it encrypted and with plain bulk;
// and whoever does not have the secret is named on both sides and gets nothing.
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

struct tcp_kit_of_plain_bulk : secured_kit {
    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(
            number, self, sink,
            {.bulk_sockets = 2, .secured = with_secret(secret_one), .plain_bulk = true});
    }
};

/// The target has the first secret, the writer what the case gives it.
struct tcp_kit_of_strangers : secured_kit {
    static inline tcp_options of_writer = {};

    fabric_actor spawn(int number, incarnation self, frame_sink_actor sink) {
        return secured_kit::spawn(number, self, sink,
                                  number == 0 ? of_writer
                                              : tcp_options{.secured = with_secret(secret_one)});
    }
};

} // namespace kvferry::testing

TYPE_TO_STRING(kvferry::testing::tcp_kit_with_secret);
TYPE_TO_STRING(kvferry::testing::tcp_kit_of_plain_bulk);
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_with_secret)
KVFERRY_FABRIC_STAGING_CONFORMANCE(tcp_kit_with_secret)
KVFERRY_FABRIC_CONFORMANCE(tcp_kit_of_plain_bulk)

using namespace kvferry;
using namespace kvferry::testing;

TEST_CASE("tcp wire: a rank with another secret, or none, makes no link, and hears why") {
    if (!has_openssl()) {
        MESSAGE("skipped: this build has no OpenSSL");
        return;
    }
    struct row {
        security_ptr writer;
        const char* why;
    };
    for (const auto& [writer, why] :
         {row{with_secret(secret_two), "does not accept the deployment secret"},
          row{security::none(), "the other side has a deployment secret"},
          row{security::of_this_user(), "the other side has a deployment secret"}}) {
        CAPTURE(why);
        tcp_kit_of_strangers::of_writer = {.secured = writer};
        fabric_memory memory(4096);
        fabric_pair<tcp_kit_of_strangers> pair;
        pair.open({pair.share(memory)});
        const auto failed = pair.probe.next<endpoint_failed>();
        CHECK_MESSAGE(contains(text_of(failed.reason), why), describe(failed.reason));
    }
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
