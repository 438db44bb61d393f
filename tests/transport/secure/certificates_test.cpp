// SPDX-License-Identifier: Apache-2.0
// Certificates in place of a secret: who is let in, who is refused with which words on both sides,
// and files that change under running ranks.
#include "tests/support/certificates.hpp"
#include "tests/support/contains.hpp"
#include "tests/support/secret_file.hpp"
#include "tests/support/silent_listener.hpp"
#include "tests/transport/secure/stream_pair.hpp"

using namespace kvferry;
using namespace kvferry::testing;

namespace {

/// Made once: every key takes its time.
struct known_files {
    known_files() {
        ours.sign("prefill", 2, "DNS:prefill-0.ranks.example");
        ours.sign("decode", 2, "DNS:other.example,DNS:decode-3.ranks.example");
        ours.sign("deep", 2, "DNS:a.b.ranks.example");
        ours.sign("above", 2, "DNS:ranks.example");
        ours.sign("star", 2, "DNS:*.ranks.example");
        ours.sign("ended", 0, "DNS:prefill-0.ranks.example");
        ours.sign("nameless");
        ours.sign("server", 2, "DNS:prefill-0.ranks.example", "extendedKeyUsage=serverAuth\n");
        theirs.sign("prefill", 2, "DNS:prefill-0.ranks.example");
    }

    certificates ours, theirs;
};

const known_files& files() {
    static const known_files made;
    return made;
}

const std::vector<std::string> all_ranks{"*.ranks.example"};

security_options shows(const certificates& by, const std::string& name,
                       std::vector<std::string> lets_in = all_ranks) {
    return {.cert_file = by.cert(name),
            .key_file = by.key(name),
            .ca_file = files().ours.ca(),
            .peer_names = std::move(lets_in)};
}

security_ptr made(const security_options& options) {
    auto result = security::make(options);
    REQUIRE_MESSAGE(result, describe(result.error()));
    return *result;
}

security_ptr rank(const std::string& name, std::vector<std::string> lets_in = all_ranks) {
    return made(shows(files().ours, name, std::move(lets_in)));
}

std::string refusal_of(const security_options& options) {
    auto result = security::make(options);
    return result ? "" : describe(result.error());
}

/// Skips where there is no OpenSSL, as library or as program.
#define REQUIRE_CERTIFICATES()                                                                     \
    if (!is_installed("openssl", "openssl"))                                                       \
        return;                                                                                    \
    if (auto tried = security::make({.secret = secret_one});                                       \
        !tried && code_of(tried.error()) == errc::unsupported) {                                   \
        MESSAGE("skipped: " << describe(tried.error()));                                           \
        return;                                                                                    \
    }

/// What both ends hear when the acceptor is to refuse, or the dialler: a dialler is done before it
/// is judged, and hears of that when it reads.
struct both_hear {
    both_hear(bool sockets, const security& dialler, const security& acceptor)
        : ends(sockets, dialler, acceptor) {
        ends.shake_hands();
        ends.carry();
        of_dialler = ends.dialler_error;
        of_acceptor = ends.acceptor_error;
        char heard[8];
        const iovec place{heard, sizeof heard};
        if (!of_dialler)
            if (auto moved = ends.dialler->read({&place, 1}); !moved)
                of_dialler = moved.error();
    }

    void check(const std::string& dialler, const std::string& acceptor) const {
        CHECK(code_of(of_dialler) == errc::foreign_peer);
        CHECK(code_of(of_acceptor) == errc::foreign_peer);
        CHECK_MESSAGE(contains(text_of(of_dialler), dialler), describe(of_dialler));
        CHECK_MESSAGE(contains(text_of(of_acceptor), acceptor), describe(of_acceptor));
    }

    pair_of_streams ends;
    caf::error of_dialler, of_acceptor;
};

} // namespace

TEST_CASE(
    "certificates: ranks with a name that is let in serve each other, and nothing of it can be "
    "read on the way") {
    REQUIRE_CERTIFICATES();
    const auto prefill = rank("prefill");
    const auto decode = rank("decode");
    CHECK(prefill->how() == security::mode::certificates);
    CHECK(prefill->needs_proof());
    CHECK_FALSE(prefill->check_bind("10.0.0.7"));
    for (const std::string& word : {std::string{"names *.ranks.example that"}, files().ours.ca(),
                                    std::string{"(prefill-0.ranks.example; until 20"}})
        CHECK_MESSAGE(contains(prefill->describe(), word), prefill->describe());
    for (bool sockets : {false, true}) {
        pair_of_streams ends{sockets, *prefill, *decode};
        ends.shake_hands();
        REQUIRE_MESSAGE(!ends.dialler_error, describe(ends.dialler_error));
        REQUIRE_MESSAGE(!ends.acceptor_error, describe(ends.acceptor_error));
        expect_passage(ends, *ends.dialler, *ends.acceptor, 200000, 100, 70000);
        expect_passage(ends, *ends.acceptor, *ends.dialler, 200000, 70000, 100);
        if (sockets)
            continue;
        const std::string text = "0123456789 these pages are mine";
        const iovec piece{const_cast<char*>(text.data()), text.size()};
        REQUIRE(ends.dialler->write({&piece, 1}));
        CHECK_FALSE(
            contains(std::string{reinterpret_cast<const char*>(ends.dialling.leaving.data()),
                                 ends.dialling.leaving.size()},
                     text));
    }
}

TEST_CASE(
    "certificates: another authority, an end in the past, a name that is not let in and a purpose "
    "that does not fit are refused by name on both sides, whoever dials") {
    REQUIRE_CERTIFICATES();
    const auto good = rank("prefill");
    struct row {
        security_ptr stranger;
        std::vector<std::string> why;
    };
    // A rank would not start with the last two: their checks are those of peers.
    const auto as_shown = [](const certificates& by, const std::string& name) {
        return made(shows(by, name));
    };
    for (const auto& [stranger, why] :
         {row{as_shown(files().theirs, "prefill"),
              {"no authority of", files().ours.ca(), "(prefill-0.ranks.example)"}},
          row{as_shown(files().ours, "deep"),
              {"none of the names", "(a.b.ranks.example)", "*.ranks.example", "--peer-names"}},
          row{as_shown(files().ours, "above"), {"none of the names", "(ranks.example)"}}})
        for (bool sockets : {false, true})
            for (bool stranger_dials : {false, true}) {
                CAPTURE(sockets);
                CAPTURE(stranger_dials);
                const both_hear x{sockets, stranger_dials ? *stranger : *good,
                                  stranger_dials ? *good : *stranger};
                for (const auto& each : why)
                    x.check(stranger_dials ? "does not accept this one's certificate" : each,
                            stranger_dials ? each : "does not accept this one's certificate");
            }
}

TEST_CASE(
    "certificates: names are let in whole, or for one label, whatever is written in capitals") {
    REQUIRE_CERTIFICATES();
    struct row {
        const char* shown;
        std::vector<std::string> lets_in;
        bool comes_in;
    };
    for (const auto& [shown, lets_in, comes_in] : {
             row{"prefill", {"prefill-0.ranks.example"}, true},
             row{"prefill", {"PREFILL-0.Ranks.Example"}, true},
             row{"prefill", {"nobody.example", "*.Ranks.Example"}, true},
             row{"prefill", {"prefill-1.ranks.example"}, false},
             row{"prefill", {"refill-0.ranks.example"}, false},
             row{"prefill", {"ranks.example"}, false}, row{"prefill", {"*.example"}, false},
             row{"decode", {"decode-3.ranks.example"}, true}, // its second name
             row{"deep", {"*.ranks.example"}, false}, row{"deep", {"*.b.ranks.example"}, true},
             row{"above", {"*.ranks.example"}, false},
             row{"star", {"prefill-0.ranks.example"}, false}, // a certificate's star lets nobody in
         }) {
        CAPTURE(shown);
        CAPTURE(lets_in.front());
        const auto door = rank("prefill", lets_in);
        const auto visitor = rank(shown);
        pair_of_streams ends{false, *visitor, *door};
        ends.shake_hands();
        CHECK(ends.acceptor_done == comes_in);
        CHECK((code_of(ends.acceptor_error) == errc::foreign_peer) != comes_in);
    }
}

TEST_CASE(
    "certificates: a peer of TLS without a certificate, or with one that has ended, is told apart "
    "and gets nothing") {
    REQUIRE_CERTIFICATES();
    const auto door = rank("prefill");
    for (const std::string shown : {"", "ended"}) {
        CAPTURE(shown);
        const silent_listener listener;
        std::vector<std::string> words{"openssl", "s_client", "-tls1_3", "-connect",
                                       listener.endpoint};
        if (!shown.empty())
            words.insert(words.end(),
                         {"-cert", files().ours.cert(shown), "-key", files().ours.key(shown)});
        const unique_fd zeros{::open("/dev/zero", O_RDONLY | O_CLOEXEC)};
        program stranger{std::move(words), zeros.get()};
        const auto connection = listener.accept(SOCK_NONBLOCK);
        REQUIRE(connection);
        const auto acceptor = door->open(stream_role::acceptor, stream_carrier{connection.get()});
        caf::error refused;
        while (!refused) {
            auto wants = acceptor->handshake();
            if (!wants) {
                refused = wants.error();
                break;
            }
            REQUIRE(*wants != stream_want::nothing);
            pollfd waiting{connection.get(), POLLIN, 0};
            REQUIRE(::poll(&waiting, 1, 30000) == 1);
        }
        CHECK(code_of(refused) == errc::foreign_peer);
        CHECK_MESSAGE(
            contains(text_of(refused), shown.empty() ? "shows no certificate" : "has ended on 20"),
            describe(refused));
        CHECK(stranger.says(shown.empty() ? "certificate required" : "certificate expired"));
    }
}

TEST_CASE(
    "certificates: a rank with a secret and one with nothing are told what the other has, whoever "
    "dials") {
    REQUIRE_CERTIFICATES();
    const auto certified = rank("prefill");
    const auto secret = made({.secret = secret_one});
    for (bool sockets : {false, true}) {
        CAPTURE(sockets);
        both_hear{sockets, *secret, *certified}.check(
            "shows a certificate in place of the deployment",
            "the other side has the deployment secret");
        both_hear{sockets, *certified, *secret}.check("a deployment secret, most likely",
                                                      "shows no deployment secret");
        // Who has nothing speaks first, or hears TLS first.
        pair_of_streams ends{sockets, *security::none(), *certified};
        const std::string question(60, '\0');
        const iovec says{const_cast<char*>(question.data()), question.size()};
        REQUIRE(ends.dialler->write({&says, 1}));
        ends.carry();
        auto refused = ends.acceptor->handshake();
        REQUIRE_FALSE(refused);
        CHECK(contains(text_of(refused.error()), "has no certificate (it does not speak TLS)"));
        ends.carry();
        char answer[20];
        const iovec place{answer, sizeof answer};
        auto heard = ends.dialler->read({&place, 1});
        REQUIRE_FALSE(heard);
        CHECK(contains(text_of(heard.error()), "certificates (it speaks TLS)"));
    }
}

TEST_CASE(
    "certificates: files that change hold for the next connection, and what cannot be used leaves "
    "the former ones") {
    REQUIRE_CERTIFICATES();
    const scratch folder;
    const auto path = [&](const char* name) { return (folder.path / name).string(); };
    // As a volume of Kubernetes does it: another file takes the name.
    const auto put = [&](const char* name, const std::string& content_of) {
        std::filesystem::copy_file(content_of, path("fresh"),
                                   std::filesystem::copy_options::overwrite_existing);
        std::filesystem::rename(path("fresh"), path(name));
    };
    const auto& ours = files().ours;
    put("cert", ours.cert("above")); // which nobody lets in
    put("key", ours.key("above"));
    const auto changing = made({.cert_file = path("cert"),
                                .key_file = path("key"),
                                .ca_file = ours.ca(),
                                .peer_names = all_ranks});
    const auto peer = rank("decode");
    const auto comes_in = [&] {
        pair_of_streams ends{false, *changing, *peer};
        ends.shake_hands();
        return ends.acceptor_done;
    };
    CHECK_FALSE(comes_in());
    pair_of_streams of_before{false, *peer, *changing}; // opened before, it keeps what it had
    put("cert", ours.cert("prefill"));
    CHECK_FALSE(comes_in()); // the key is not there yet
    CHECK(contains(changing->describe(), "(ranks.example; until"));
    put("key", ours.key("prefill"));
    CHECK(comes_in());
    CHECK(contains(changing->describe(), "(prefill-0.ranks.example; until"));
    of_before.shake_hands();
    CHECK(contains(text_of(of_before.dialler_error), "(ranks.example)"));
    std::filesystem::remove(path("cert"));
    CHECK(comes_in());
}

TEST_CASE(
    "certificates: what is missing, contradicts itself or cannot be used is refused at the start, "
    "with the file and what to do") {
    REQUIRE_CERTIFICATES();
    const auto& ours = files().ours;
    const auto good = shows(ours, "prefill");
    const auto with = [&](auto change) {
        auto options = good;
        change(options);
        return refusal_of(options);
    };
    const secret_file garbage{"no PEM"};
    std::filesystem::permissions(ours.key("star"), std::filesystem::perms{0644});
    struct row {
        std::string refusal, why;
    };
    for (const auto& [refusal, why] :
         {row{with([](auto& x) { x.secret = secret_one; }), "exclude each other"},
          row{with([](auto& x) { x.insecure = true; }), "exclude each other"},
          row{with([](auto& x) { x.key_file = {}; }),
              "need key_file (--key-file, KVFERRY_KEY_FILE)"},
          row{with([](auto& x) { x.peer_names = {}; }), "need peer_names"},
          row{with([](auto& x) { x.peer_names = {"*"}; }), "'*' in"},
          row{with([](auto& x) { x.peer_names = {"a.*.example"}; }), "'a.*.example' in"},
          row{with([](auto& x) { x.cert_file = "/nowhere/at.all"; }), "/nowhere/at.all"},
          row{with([&](auto& x) { x.cert_file = garbage.path(); }), garbage.path()},
          row{with([&](auto& x) { x.ca_file = garbage.path(); }), garbage.path()},
          row{with([&](auto& x) { x.key_file = ours.key("decode"); }),
              "not the one of the certificate"},
          row{with([&](auto& x) { x.key_file = ours.key("star"); }), "chmod 600"},
          row{refusal_of(shows(ours, "ended")), "has ended on 20"},
          row{refusal_of(shows(ours, "nameless")), "no DNS name as subject alternative name"},
          row{refusal_of(shows(ours, "server")), "clientAuth and serverAuth"}})
        CHECK_MESSAGE(contains(refusal, why), refusal << " / " << why);
    std::filesystem::permissions(ours.key("star"), std::filesystem::perms{0600});
}

TEST_CASE(
    "certificates: the environment gives them where the options say nothing, and never beside a "
    "secret") {
    REQUIRE_CERTIFICATES();
    const auto& ours = files().ours;
    const auto set = [](const char* name, const std::string& value) {
        ::setenv(name, value.c_str(), 1);
    };
    set("KVFERRY_CERT_FILE", ours.cert("prefill"));
    set("KVFERRY_KEY_FILE", ours.key("prefill"));
    set("KVFERRY_CA_FILE", ours.ca());
    const auto incomplete = refusal_of({});
    const auto completed = security::make({.peer_names = {"a.example"}});
    set("KVFERRY_PEER_NAMES", "a.example, *.ranks.example");
    const auto from_environment = security::make({});
    const auto secret_of_host = security::make({.secret = secret_one});
    const auto open = security::make({.insecure = true});
    set("KVFERRY_SECRET", secret_one);
    const auto both = refusal_of({});
    const auto certificates_of_host = security::make(shows(ours, "decode"));
    for (const auto* name : {"KVFERRY_CERT_FILE", "KVFERRY_KEY_FILE", "KVFERRY_CA_FILE",
                             "KVFERRY_PEER_NAMES", "KVFERRY_SECRET"})
        ::unsetenv(name);
    CHECK_MESSAGE(contains(incomplete, "peer_names (--peer-names, KVFERRY_PEER_NAMES)"),
                  incomplete);
    REQUIRE(completed);
    CHECK(contains((*completed)->describe(), "the names a.example that"));
    REQUIRE(from_environment);
    CHECK((*from_environment)->how() == security::mode::certificates);
    CHECK(contains((*from_environment)->describe(), "the names a.example, *.ranks.example that"));
    CHECK((*secret_of_host)->how() == security::mode::secret);
    CHECK((*open)->how() == security::mode::insecure);
    CHECK_MESSAGE(contains(both, "of which one alone can hold"), both);
    CHECK((*certificates_of_host)->how() == security::mode::certificates);
}
