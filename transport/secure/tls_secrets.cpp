// SPDX-License-Identifier: Apache-2.0
// Keys that are derived from the deployment's secrets, as external pre-shared keys of TLS.
#include "messages/values/error_format.hpp"
#include "transport/secure/tls_proof.hpp"

#include <algorithm>
#include <array>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

namespace kvferry {

namespace {

/// TLS_AES_128_GCM_SHA256, with whose hash the keys are used.
constexpr unsigned char cipher_number[] = {0x13, 0x01};

using kdf_ptr = std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)>;
using kdf_context_ptr = std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)>;

/// HKDF with SHA-256: `purpose` keeps what is shown of a secret apart from what it protects.
bool derive(const std::string& secret, std::string purpose, unsigned char* out, std::size_t bytes) {
    const kdf_ptr kdf{EVP_KDF_fetch(nullptr, "HKDF", nullptr), &EVP_KDF_free};
    if (!kdf)
        return false;
    const kdf_context_ptr context{EVP_KDF_CTX_new(kdf.get()), &EVP_KDF_CTX_free};
    std::string digest = "SHA256";
    std::string key = secret;
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, key.data(), key.size()),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, purpose.data(), purpose.size()),
        OSSL_PARAM_construct_end()};
    return context && EVP_KDF_derive(context.get(), out, bytes, parameters) == 1;
}

struct shared_key {
    std::array<unsigned char, 32> key{};
    std::string name;
};

caf::expected<shared_key> make_key(const std::string& secret) {
    shared_key result;
    std::array<unsigned char, 6> name{};
    if (!derive(secret, "kvferry tls 1.3 psk", result.key.data(), result.key.size())
        || !derive(secret, "kvferry name of a secret", name.data(), name.size()))
        return make_error(errc::unsupported, "OpenSSL has no HKDF with SHA-256: {}",
                          last_tls_failure().text);
    for (auto each : name)
        result.name += fmt::format("{:02x}", each);
    return result;
}

std::string joined(const std::vector<std::string>& names) {
    std::string result;
    for (const auto& each : names)
        result += (result.empty() ? "" : ", ") + each;
    return result;
}

class proof_by_secret final : public tls_proof {
public:
    caf::error make(const std::vector<std::string>& secrets) {
        for (const auto& secret : secrets) {
            auto key = make_key(secret);
            if (!key)
                return std::move(key.error());
            names_.push_back(key->name);
            keys_.push_back(std::move(*key));
        }
        // A dialler has no certificate to check, and takes none in place of the key.
        auto made = make_tls_context();
        if (!made)
            return std::move(made.error());
        context_ = std::move(*made);
        SSL_CTX_set_psk_use_session_callback(context_.get(), &proof_by_secret::show);
        SSL_CTX_set_psk_find_session_callback(context_.get(), &proof_by_secret::find);
        return {};
    }

    secure_stream_ptr open(stream_role role, stream_carrier carrier) const override {
        return make_tls_stream(shared_from_this(), context_.get(), role, carrier);
    }

    std::string describe() const override {
        std::string more;
        for (std::size_t i = 1; i < names_.size(); ++i)
            more += (i == 1 ? ", accepts also " : ", ") + names_[i];
        return "the deployment secret " + names_.front() + more;
    }

    /// An acceptor asks for no certificate, and OpenSSL takes a key of a session that is not its
    /// own.
    void prepare(SSL* stream, stream_role role) const override {
        if (role == stream_role::acceptor)
            SSL_set_verify(stream, SSL_VERIFY_NONE, nullptr);
    }

    bool is_proven(SSL* stream) const override { return SSL_session_reused(stream) == 1; }

    std::string why_unproven() const override {
        return "the other side shows no deployment secret: start it with the same "
               "KVFERRY_SECRET_FILE (worker_options.security)";
    }

    std::string why_plain() const override {
        return "the other side has no deployment secret (it does not speak TLS): start it with the "
               "same KVFERRY_SECRET_FILE (worker_options.security)";
    }

    std::string why_not(stream_role role, const tls_findings& found,
                        const tls_failure& failure) const override {
        if (role == stream_role::dialler && !failure.told)
            return fmt::format("the other side shows a certificate in place of the deployment "
                               "secret {}: give both sides the same secret, or both certificates "
                               "({})",
                               names_.front(), failure.text);
        if (role == stream_role::dialler)
            return fmt::format("the other side does not accept the deployment secret {}: give both "
                               "sides the same one, or add it to those that the other side accepts "
                               "({})",
                               names_.front(), failure.text);
        if (found.secret.empty())
            return fmt::format(
                "the other side speaks TLS and shows no deployment secret, as a rank "
                "with certificates does ({})",
                failure.text);
        if (!found.is_known)
            return fmt::format("the other side shows another deployment secret ({}; accepted here: "
                               "{}): give both sides the same one",
                               printable(found.secret), joined(names_));
        return fmt::format("the other side names the deployment secret {} and does not know it "
                           "({})",
                           printable(found.secret), failure.text);
    }

private:
    SSL_SESSION* session_of(SSL* stream, const shared_key& key) const {
        auto* session = SSL_SESSION_new();
        if (session && SSL_SESSION_set1_master_key(session, key.key.data(), key.key.size()) == 1
            && SSL_SESSION_set_cipher(session, SSL_CIPHER_find(stream, cipher_number)) == 1
            && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1)
            return session;
        SSL_SESSION_free(session);
        return nullptr;
    }

    static const proof_by_secret& of(SSL* stream) {
        return static_cast<const proof_by_secret&>(tls_proof_of(stream));
    }

    /// OpenSSL asks a dialler for what it shows.
    static int show(SSL* stream, const EVP_MD*, const unsigned char** name, std::size_t* name_bytes,
                    SSL_SESSION** session) {
        const auto& key = of(stream).keys_.front();
        *session = of(stream).session_of(stream, key);
        *name = reinterpret_cast<const unsigned char*>(key.name.data());
        *name_bytes = key.name.size();
        return *session ? 1 : 0;
    }

    /// OpenSSL asks an acceptor for the key behind what it is shown.
    static int find(SSL* stream, const unsigned char* name, std::size_t name_bytes,
                    SSL_SESSION** session) {
        const std::string_view shown{reinterpret_cast<const char*>(name), name_bytes};
        const auto& keys = of(stream).keys_;
        const auto found = std::find_if(keys.begin(), keys.end(),
                                        [shown](const shared_key& x) { return x.name == shown; });
        auto& findings = tls_findings_of(stream);
        findings.secret = std::string{shown.substr(0, 32)};
        findings.is_known = found != keys.end();
        *session = found == keys.end() ? nullptr : of(stream).session_of(stream, *found);
        return found == keys.end() || *session ? 1 : 0;
    }

    std::vector<shared_key> keys_;
    std::vector<std::string> names_;
    tls_context_ptr context_{nullptr, &SSL_CTX_free};
};

} // namespace

caf::expected<std::shared_ptr<const tls>>
tls::with_secrets(const std::vector<std::string>& secrets) {
    auto result = std::make_shared<proof_by_secret>();
    if (auto problem = result->make(secrets))
        return problem;
    return std::shared_ptr<const tls>{std::move(result)};
}

} // namespace kvferry
