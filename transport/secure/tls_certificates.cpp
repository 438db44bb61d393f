// SPDX-License-Identifier: Apache-2.0
// Certificates on both sides, and the names that are let in. The files may change at any time.
#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/secure/deployment_secret.hpp"
#include "transport/secure/tls_proof.hpp"

#include <algorithm>
#include <array>
#include <ctime>
#include <mutex>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

namespace kvferry {

namespace {

/// Of what a stranger may show: the bytes of its certificates, and how many of them lie between it
/// and an authority.
constexpr long chain_bytes_max = 32L << 10;
constexpr int chain_depth_max = 8;

/// Of a certificate's names in an error.
constexpr int names_shown_max = 4;

using certificate_ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using names_ptr = std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)>;
using key_ptr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using file_bio = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

/// Its DNS names, as far as they are to be shown; empty: it has none.
std::string dns_names(X509* certificate) {
    const names_ptr names{static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(
                              certificate, NID_subject_alt_name, nullptr, nullptr)),
                          &GENERAL_NAMES_free};
    std::string result;
    int shown = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const auto* name = sk_GENERAL_NAME_value(names.get(), i);
        if (name->type != GEN_DNS)
            continue;
        if (++shown > names_shown_max)
            return result + ", ...";
        const auto* text = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
        const auto bytes = static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName));
        result +=
            (result.empty() ? "" : ", ") + printable({text, std::min<std::size_t>(bytes, 80)});
    }
    return result;
}

/// How it is called in errors: by its names, else by its subject.
std::string name_of(X509* certificate) {
    if (auto names = dns_names(certificate); !names.empty())
        return names;
    const file_bio text{BIO_new(BIO_s_mem()), &BIO_free_all};
    char* begin = nullptr;
    if (!text
        || X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE)
               < 0)
        return "no DNS name";
    const auto bytes = BIO_get_mem_data(text.get(), &begin);
    return "no DNS name, subject "
           + printable({begin, static_cast<std::size_t>(std::clamp(bytes, 0L, 80L))});
}

std::string day_of(const ASN1_TIME* time) {
    std::tm parts{};
    char text[32];
    if (ASN1_TIME_to_tm(time, &parts) != 1
        || std::strftime(text, sizeof text, "%F %T UTC", &parts) == 0)
        return "an unknown time";
    return text;
}

/// The words for a certificate that was not taken.
std::string words_for(int problem, X509* shown, X509* at, const security_options& ours) {
    const auto name = name_of(shown);
    const auto whose = !at || at == shown ? std::string{"it"} : "its authority";
    switch (problem) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
        return fmt::format(
            "the other side's certificate ({}) has none of the names that are let in "
            "here ({}): name it in worker_options.security.peer_names "
            "(--peer-names, KVFERRY_PEER_NAMES), or give it another certificate",
            name, fmt::join(ours.peer_names, ", "));
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return fmt::format(
            "the other side's certificate ({}) is no longer valid: {} has ended on {}; "
            "give the other side a new one",
            name, whose, day_of(X509_get0_notAfter(at ? at : shown)));
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return fmt::format(
            "the other side's certificate ({}) is not valid yet: {} begins on {}; are "
            "both clocks right?",
            name, whose, day_of(X509_get0_notBefore(at ? at : shown)));
    case X509_V_ERR_INVALID_PURPOSE:
        return fmt::format(
            "the other side's certificate ({}) is for something else: ranks dial and "
            "are dialled, so its extended key usage has both clientAuth and "
            "serverAuth, or there is none",
            name);
    default:
        return fmt::format(
            "no authority of {} stands for the other side's certificate ({}): {}; sign "
            "it by one of them, or add its authority to that file",
            ours.ca_file, name, X509_verify_cert_error_string(problem));
    }
}

/// A name, or "*." and a name.
bool is_peer_name(std::string_view text) {
    if (text.starts_with("*."))
        text.remove_prefix(2);
    return !text.empty() && text.size() < 254 && text.front() != '.' && text.back() != '.'
           && std::all_of(text.begin(), text.end(), [](char x) {
                  return (x >= 'a' && x <= 'z') || (x >= 'A' && x <= 'Z') || (x >= '0' && x <= '9')
                         || x == '-' || x == '_' || x == '.';
              });
}

caf::error check_names(const std::vector<std::string>& names) {
    for (const auto& each : names)
        if (!is_peer_name(each))
            return make_error(errc::invalid_argument,
                              "'{}' in worker_options.security.peer_names (--peer-names, "
                              "KVFERRY_PEER_NAMES) is neither a DNS name nor one behind '*.'",
                              printable(each));
    return {};
}

/// Tells whether one of the files has changed.
using file_stamps = std::array<std::array<std::int64_t, 6>, 3>;

file_stamps stamps_of(const security_options& of) {
    file_stamps result{};
    auto* into = result.data();
    for (const auto* path : {&of.cert_file, &of.key_file, &of.ca_file}) {
        struct stat what {};
        if (::stat(path->c_str(), &what) == 0)
            *into = {static_cast<std::int64_t>(what.st_dev),
                     static_cast<std::int64_t>(what.st_ino),
                     what.st_size,
                     what.st_mtim.tv_sec,
                     what.st_ctim.tv_sec,
                     what.st_mtim.tv_nsec ^ (what.st_ctim.tv_nsec << 30)};
        ++into;
    }
    return result;
}

struct loaded_files {
    std::shared_ptr<SSL_CTX> context;
    /// For the log: names and end of our certificate.
    std::string shown;
};

caf::error unusable(const std::string& file, const std::string& why) {
    return make_error(errc::invalid_argument, "{}: {}", file, why);
}

/// A key that is encrypted is refused: nobody is there to ask.
int no_password(char*, int, int, void*) {
    return -1;
}

caf::error load_key(SSL_CTX* context, const std::string& path) {
    auto text = read_secret_file(path, "key file");
    if (!text)
        return std::move(text.error());
    const file_bio bytes{BIO_new_mem_buf(text->data(), static_cast<int>(text->size())),
                         &BIO_free_all};
    const key_ptr key{PEM_read_bio_PrivateKey(bytes.get(), nullptr, &no_password, nullptr),
                      &EVP_PKEY_free};
    std::fill(text->begin(), text->end(), '\0');
    if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1)
        return unusable(path, "no private key in PEM without a password, or not the one of the "
                              "certificate ("
                                  + last_tls_failure().text + ")");
    return {};
}

/// What peers would refuse is said here first.
caf::error check_ours(X509* certificate, const std::string& path) {
    if (dns_names(certificate).empty())
        return unusable(path, "the certificate has no DNS name as subject alternative name, by "
                              "which peers let it in");
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0)
        return unusable(path, "the certificate (" + name_of(certificate) + ") has ended on "
                                  + day_of(X509_get0_notAfter(certificate)));
    for (int purpose : {X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER})
        if (X509_check_purpose(certificate, purpose, 0) != 1)
            return unusable(path, "ranks dial and are dialled: the certificate's extended key "
                                  "usage must have clientAuth and serverAuth");
    return {};
}

class proof_by_certificate final : public tls_proof {
public:
    explicit proof_by_certificate(const security_options& with) : with_(with) {}

    caf::error make() {
        if (auto problem = check_names(with_.peer_names))
            return problem;
        stamps_ = stamps_of(with_);
        auto first = load();
        if (!first)
            return std::move(first.error());
        loaded_ = std::move(*first);
        return {};
    }

    secure_stream_ptr open(stream_role role, stream_carrier carrier) const override {
        return make_tls_stream(shared_from_this(), newest().context.get(), role, carrier);
    }

    std::string describe() const override {
        return fmt::format("a certificate with one of the names {} that an authority of {} stands "
                           "for, and is shown {} ({})",
                           fmt::join(with_.peer_names, ", "), with_.ca_file, with_.cert_file,
                           newest().shown);
    }

    bool is_proven(SSL* stream) const override {
        return SSL_get0_peer_certificate(stream) && SSL_get_verify_result(stream) == X509_V_OK
               && SSL_session_reused(stream) == 0;
    }

    std::string why_unproven() const override {
        return "the other side shows no certificate: " + what_to_do();
    }

    std::string why_plain() const override {
        return "the other side has no certificate (it does not speak TLS): " + what_to_do();
    }

    std::string why_not(stream_role role, const tls_findings& found,
                        const tls_failure& failure) const override {
        const auto wants_secret = role == stream_role::dialler && failure.told
                                  && failure.reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE;
        if (wants_secret || !found.secret.empty())
            return fmt::format("the other side has {}, this one has certificates: start both with "
                               "the same kind ({})",
                               wants_secret ? "a deployment secret, most likely"
                                            : "the deployment secret " + printable(found.secret),
                               failure.text);
        if (found.problem != X509_V_OK)
            return found.why;
        if (failure.told)
            return fmt::format("the other side does not accept this one's certificate {} ({}): its "
                               "own log says why ({})",
                               with_.cert_file, newest().shown, failure.text);
        if (role == stream_role::acceptor
            && failure.reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
            return why_unproven();
        return "no proof by certificates: " + failure.text;
    }

private:
    static std::string what_to_do() {
        return "start it with KVFERRY_CERT_FILE and what goes with it (worker_options.security)";
    }

    static const proof_by_certificate& of(SSL* stream) {
        return static_cast<const proof_by_certificate&>(tls_proof_of(stream));
    }

    /// OpenSSL has judged a certificate of a peer's chain.
    static int judged(int good, X509_STORE_CTX* chain) {
        auto* stream = static_cast<SSL*>(
            X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
        auto& found = tls_findings_of(stream);
        if (!good && found.problem == X509_V_OK) {
            found.problem = X509_STORE_CTX_get_error(chain);
            found.why = words_for(found.problem, X509_STORE_CTX_get0_cert(chain),
                                  X509_STORE_CTX_get_current_cert(chain), of(stream).with_);
        }
        return good;
    }

    /// A peer with a secret names it, to be told apart; it is not a proof here.
    static int note_secret(SSL* stream, const unsigned char* name, std::size_t bytes,
                           SSL_SESSION** session) {
        tls_findings_of(stream).secret = {reinterpret_cast<const char*>(name),
                                          std::min<std::size_t>(bytes, 32)};
        *session = nullptr;
        return 1;
    }

    caf::expected<loaded_files> load() const {
        auto made = make_tls_context();
        if (!made)
            return std::move(made.error());
        auto* context = made->get();
        if (SSL_CTX_use_certificate_chain_file(context, with_.cert_file.c_str()) != 1)
            return unusable(with_.cert_file,
                            "no certificate in PEM (" + last_tls_failure().text + ")");
        auto* ours = SSL_CTX_get0_certificate(context);
        if (auto problem = check_ours(ours, with_.cert_file))
            return problem;
        if (auto problem = load_key(context, with_.key_file))
            return problem;
        if (SSL_CTX_load_verify_file(context, with_.ca_file.c_str()) != 1)
            return unusable(with_.ca_file, "no certificate of an authority in PEM ("
                                               + last_tls_failure().text + ")");
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &judged);
        SSL_CTX_set_verify_depth(context, chain_depth_max);
        SSL_CTX_set_max_cert_list(context, chain_bytes_max);
        SSL_CTX_set_psk_find_session_callback(context, &note_secret);
        auto* rules = SSL_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN);
        X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_WILDCARDS
                                                   | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
                                                   | X509_CHECK_FLAG_SINGLE_LABEL_SUBDOMAINS);
        for (const auto& each : with_.peer_names) {
            // OpenSSL's word for one more label in front is a dot.
            const auto name = each.starts_with('*') ? each.substr(1) : each;
            if (X509_VERIFY_PARAM_add1_host(rules, name.data(), name.size()) != 1)
                return make_error(errc::invalid_argument,
                                  "OpenSSL does not take the peer name '{}'", each);
        }
        auto shown = name_of(ours) + "; until " + day_of(X509_get0_notAfter(ours));
        return loaded_files{{made->release(), &SSL_CTX_free}, std::move(shown)};
    }

    /// What the files hold now; what they held when that is unusable.
    loaded_files newest() const {
        const auto now = stamps_of(with_);
        const std::lock_guard lock{mutex_};
        if (now == stamps_)
            return loaded_;
        stamps_ = now;
        if (auto fresh = load()) {
            loaded_ = std::move(*fresh);
            logger().info("certificates: new connections show {} ({})", with_.cert_file,
                          loaded_.shown);
        } else {
            logger().warn("certificates: the files have changed and cannot be used, so new "
                          "connections go on with the former ones ({}): {}",
                          loaded_.shown, kvferry::describe(fresh.error()));
        }
        return loaded_;
    }

    const security_options with_;
    /// Connections are opened on several threads.
    mutable std::mutex mutex_;
    mutable file_stamps stamps_{};
    mutable loaded_files loaded_;
};

} // namespace

caf::expected<std::shared_ptr<const tls>> tls::with_certificates(const security_options& with) {
    auto result = std::make_shared<proof_by_certificate>(with);
    if (auto problem = result->make())
        return problem;
    return std::shared_ptr<const tls>{std::move(result)};
}

} // namespace kvferry
